// Recent and saved searches, kept in the browser (localStorage). Each is the query of an address that repeats it.

const RECENT = "xmodal.recent";
const SAVED = "xmodal.saved";
const MOST = { [RECENT]: 20, [SAVED]: 500 };
const PAUSE = 2000; // milliseconds without another search, after which a search is a recent one
const element = (id) => document.getElementById(id);
const memory = {}; // where the browser keeps nothing

function read(key) {
  try {
    const found = JSON.parse(localStorage.getItem(key) || "[]");
    return Array.isArray(found) ? found.filter((entry) => typeof entry === "string") : [];
  } catch {
    return memory[key] || [];
  }
}

function write(key, entries) {
  memory[key] = entries.slice(0, MOST[key]);
  try {
    localStorage.setItem(key, JSON.stringify(memory[key]));
  } catch {
    // the list is kept until the page is closed
  }
}

export class SearchHistory {
  // `current` returns the query of the address of the search, "" for none that can be repeated.
  constructor({ current, onOpen }) {
    this.current = current;
    this.onOpen = onOpen;
    this.timer = 0;
    this.paused = ""; // the last entry that a pause has added: the user may still type
    element("save").addEventListener("click", () => this.save(this.current()));
    element("forget").addEventListener("click", () => {
      write(RECENT, []);
      this.show();
      announce("Recent searches deleted");
      element("history").querySelector("summary").focus();
    });
    addEventListener("storage", () => this.show()); // another tab has changed the lists
    element("history").addEventListener("toggle", () => this.show());
  }

  // Called after each search: it is a recent one if it was submitted, or if no other follows soon.
  searched(isSubmitted) {
    clearTimeout(this.timer);
    element("save").disabled = !this.current();
    if (isSubmitted) this.addRecent(true);
    else this.timer = setTimeout(() => this.addRecent(false), PAUSE);
  }

  addRecent(isSubmitted) {
    const entry = this.current();
    if (!entry) return;
    if (this.paused && this.paused !== entry && continues(this.paused, entry)) this.remove(RECENT, this.paused);
    this.paused = isSubmitted ? "" : entry;
    this.add(RECENT, entry);
  }

  save(entry) {
    this.add(SAVED, entry);
    announce(`Saved ${labelOf(entry)}`);
  }

  add(key, entry) {
    write(key, [entry, ...read(key).filter((other) => other !== entry)]);
    this.show();
  }

  remove(key, entry) {
    write(key, read(key).filter((other) => other !== entry));
    this.show();
  }

  show() {
    element("save").disabled = !this.current();
    element("forget").disabled = read(RECENT).length === 0;
    for (const [key, id] of [[SAVED, "saved"], [RECENT, "recent"]]) {
      const list = element(id);
      const entries = read(key);
      list.replaceChildren(...entries.map((entry, position) => this.item(key, entry, position, list)));
      element(`${id}-none`).hidden = entries.length > 0;
    }
  }

  item(key, entry, position, list) {
    const item = document.createElement("li");
    const link = document.createElement("a");
    const label = labelOf(entry);
    link.href = `/?${entry}`;
    link.textContent = label;
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      element("history").open = false;
      this.onOpen(entry);
    });
    item.append(link);
    const save = () => {
      this.save(entry);
      list.children[position].querySelector("a").focus();
    };
    if (key === RECENT && !read(SAVED).includes(entry)) item.append(button("Save", `Save the search ${label}`, save));
    const remove = () => {
      this.remove(key, entry);
      announce(`Deleted ${label}`);
      const next = list.children[Math.min(position, list.children.length - 1)]?.querySelector("a");
      (next || element("history").querySelector("summary")).focus();
    };
    item.append(button("×", `Delete the search ${label}`, remove));
    return item;
  }
}

function announce(text) {
  element("searches-status").textContent = text;
}

function button(text, label, onClick) {
  const found = document.createElement("button");
  found.type = "button";
  found.textContent = text;
  found.setAttribute("aria-label", label);
  found.addEventListener("click", onClick);
  return found;
}

// Whether `entry` is the search `before` with more text.
function continues(before, entry) {
  const [first, second] = [new URLSearchParams(before), new URLSearchParams(entry)];
  const isLonger = (second.get("q") || "").startsWith(first.get("q") || "");
  first.delete("q");
  second.delete("q");
  return isLonger && first.toString() === second.toString();
}

// "two dogs, in 2024, from 2024-06, 2 photos, index trip"
function labelOf(entry) {
  const params = new URLSearchParams(entry);
  const words = { in: "in", after: "from", before: "before", threshold: "score from" };
  const parts = params.get("q") ? [params.get("q")] : [];
  for (const [name, word] of Object.entries(words)) if (params.get(name)) parts.push(`${word} ${params.get(name)}`);
  const photos = params.getAll("like").length + params.getAll("unlike").length;
  if (photos) parts.push(photos === 1 ? "1 photo" : `${photos} photos`);
  if (element("index").options.length > 1 && params.get("index")) parts.push(`index ${params.get("index")}`);
  return parts.join(", ");
}
