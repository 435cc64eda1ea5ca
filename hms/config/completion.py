"""What the Tab key offers: the words for a line that is being typed, and the scripts that ask for them."""

from __future__ import annotations

from collections.abc import Iterable

from hms.config.manual import EXPERIMENT, Manual

_BASH = r"""
_hms_words() {
    local line="${COMP_LINE:0:COMP_POINT}" word head
    local IFS=$'\n'
    COMPREPLY=($("$@" completion --line "$line" 2>/dev/null))
    word="${line##*[[:space:]]}"
    # where readline parts words at '=', it completes only what follows
    if [[ $COMP_WORDBREAKS == *=* && $word == *=* ]]; then
        head="${word%"${word##*=}"}"
        COMPREPLY=("${COMPREPLY[@]#"$head"}")
    fi
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} != *[=./] ]]; then compopt +o nospace; fi
}
_hms() { _hms_words "$1"; }
_hms_run_py() {
    if [[ ${COMP_WORDS[1]##*/} == run.py ]] && grep -q hms "${COMP_WORDS[1]}" 2>/dev/null; then
        _hms_words "$1" -m hms
    fi
}
complete -o nospace -o default -F _hms hms
complete -o nospace -o default -F _hms_run_py python python3
"""

_ZSH = r"""
_hms_words() {
    local -a found full open
    local word
    found=("${(@f)$("$@" completion --line "${(j: :)words[1,CURRENT]}" 2>/dev/null)}")
    for word in $found; do
        if [[ $word == *[=./] ]]; then open+=($word); else full+=($word); fi
    done
    (( $#open + $#full )) || { _files; return }
    (( $#open )) && compadd -Q -S '' -- $open
    (( $#full )) && compadd -Q -- $full
}
_hms() { _hms_words $words[1] }
_hms_run_py() {
    if [[ ${words[2]:t} == run.py ]] && grep -q hms $words[2] 2>/dev/null; then
        _hms_words $words[1] -m hms
    else
        autoload -Uz _python && _python
    fi
}
compdef _hms hms
compdef _hms_run_py python python3
"""

_FISH = r"""
function __hms_words
    set -l line (commandline -cp)
    set -l typed (commandline -cpo)
    if string match -q '*python*' -- $typed[1]
        $typed[1] -m hms completion --line "$line" 2>/dev/null
    else
        $typed[1] completion --line "$line" 2>/dev/null
    end
end
complete -c hms -f -a '(__hms_words)'
for name in python python3
    complete -c $name -n 'string match -q "*run.py" -- (commandline -cpo)[2]' -f -a '(__hms_words)'
end
"""

SCRIPTS = {"bash": _BASH.lstrip(), "zsh": _ZSH.lstrip(), "fish": _FISH.lstrip()}
"""What a shell reads to know our completion, by its name."""


def words_of(line: str) -> list[str]:
    """Return the arguments on a line that is being typed, the last one as far as it is typed.

    The program, ``hms`` or ``python run.py``, is left out; the latter is ``hms run``.
    """
    words = line.split(" ")
    words = [*filter(None, words[:-1]), words[-1]]
    if words[0].rpartition("/")[2].startswith("python"):
        return ["run", *words[2:]]
    return words[1:]


def complete(manual: Manual, word: str) -> list[str]:
    """Return what an override that is typed so far can become.

    A group or setting ends in ``=``, a section in ``.``; after ``=`` come the options or the values,
    after a comma further ones for a sweep.
    """
    path, sign, value = word.partition("=")
    if not sign:
        return _starting(word, _names(manual, path.rpartition(".")[0]))
    done, comma, _ = value.rpartition(",")
    return _starting(word, (f"{path}={done}{comma}{choice}" for choice in _values(manual, path)))


def _names(manual: Manual, section: str) -> list[str]:
    """Return what is in a section (the top level has the empty name)."""
    found: dict[str, None] = {}
    if not section:
        for group in manual.groups:
            found[f"{group}="] = None
            if group != EXPERIMENT:
                found[f"{group}."] = None
    above = f"{section}." if section else ""
    for path in manual.settings:
        if path.startswith(above):
            name, dot, _ = path[len(above) :].partition(".")
            if section or name not in manual.groups:
                found[f"{above}{name}{dot or '='}"] = None
    return list(found)


def _values(manual: Manual, path: str) -> list[str]:
    if path in manual.groups:
        return [option.name for option in manual.options[path]]
    setting = manual.settings.get(path)
    if setting is None:
        return []
    shape = setting.shape
    choices = [*shape.choices, *(("true", "false") if shape.kind is bool else ())]
    return [*choices, *(("null",) if shape.nullable else ())]


def _starting(word: str, found: Iterable[str]) -> list[str]:
    return [text for text in found if text.startswith(word)]
