/** The dialogs: each asks one thing and answers with it, or with null. */

const at = (id) => document.getElementById(id);

function asked(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "keep"), { once: true }));
}

export async function askNote(text) {
  const dialog = at("note"), field = dialog.querySelector("textarea");
  field.value = text;
  field.onkeydown = (event) => {
    if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); dialog.close("keep"); }
  };
  const kept = asked(dialog);
  field.focus();
  return (await kept) ? field.value.trim() : null;
}

export async function askVotes(about, votes) {
  const dialog = at("vote"), known = new Map(votes.split(";").filter(Boolean).map((part) => part.split("=")));
  dialog.querySelector(".counts").replaceChildren(...about.class_names.map((name, k) => {
    const label = document.createElement("label"), field = document.createElement("input");
    Object.assign(field, { type: "number", min: 0, max: 999, step: "any", name, value: known.get(name) ?? "" });
    label.append(about.classes[k], field);
    return label;
  }));
  const fields = [...dialog.querySelectorAll("input")], kept = asked(dialog);
  fields[0].focus();
  if (!(await kept)) return null;
  return fields.filter((field) => Number(field.value) > 0).map((field) => `${field.name}=${Number(field.value)}`).join(";");
}

export async function askItem(ids) {
  const dialog = at("jump"), field = dialog.querySelector("input");
  field.value = "";
  field.oninput = () => {
    const near = field.value ? ids.filter((id) => id.includes(field.value)).slice(0, 20) : [];
    at("ids").replaceChildren(...near.map((id) => new Option(id, id)));
  };
  const kept = asked(dialog);
  field.focus();
  if (!(await kept)) return null;
  const text = field.value.trim();
  return ids.includes(text) ? text : ids.find((id) => id.startsWith(text)) ?? text;
}

export function showHelp(keys) {
  const dialog = at("help");
  dialog.querySelector("dl").replaceChildren(...keys.map(([shown, what]) => {
    const line = document.createElement("div"), name = document.createElement("dt"), text = document.createElement("dd");
    for (const key of shown.split(" ")) { const k = document.createElement("kbd"); k.textContent = key; name.append(k, " "); }
    text.textContent = what;
    line.append(name, text);
    return line;
  }));
  dialog.showModal();
}
