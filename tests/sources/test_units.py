"""Units as headers spell them."""

from __future__ import annotations

import pytest

from hms.sources.units import scale_uv, unit_text


@pytest.mark.parametrize(
    "raw",
    [
        b"uV      ",
        b"\xb5V",
        b"\xc2\xb5V",
        b"\xce\xbcV",
        b"\xecV",
        b"\x83\xcaV",
        b"\xe6V",
        b"\xa6\xccV",
        b"\xc3\x82\xc2\xb5V",
        b"UV",
        b"uVolts",
        b"uVolt",
        b"microV",
        b"MicroVolt",
        b"muV",
        b"uV\0\0\0\0\0\0",
        b"u V",
    ],
)
def test_every_spelling_of_a_microvolt_is_one(raw):
    """Latin-1, UTF-8, Greek, Shift-JIS, code page 437, GBK, encoded twice; words and letter case."""
    assert scale_uv(unit_text(raw)) == 1


@pytest.mark.parametrize(
    ("unit", "scale"),
    [
        ("nV", 1e-3),
        ("µV", 1),
        ("μV", 1),
        ("mV", 1e3),
        ("MV", 1e3),
        ("V", 1e6),
        ("Volts", 1e6),
        ("millivolt", 1e3),
    ],
)
def test_units_of_voltage_are_known(unit, scale):
    assert scale_uv(unit) == scale


@pytest.mark.parametrize("unit", ["", "degC", "%", "uA", "V/s", "kV", "?V", "Ohm", "\xb5A", "bpm"])
def test_what_is_no_unit_of_voltage_is_refused(unit):
    """The message names the unit and those that are known."""
    with pytest.raises(ValueError, match="not one of nV, uV, mV, V"):
        scale_uv(unit)
