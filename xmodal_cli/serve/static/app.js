// The page: searches while the user types, cancels what is out of date, and loads more photos at the end of the grid.

import { request } from "./api.js";
import { Detail } from "./detail.js";
import { Grid } from "./grid.js";
import { SearchHistory } from "./history.js";
import { Selection } from "./selection.js";
import { FILTERS, readState, toParams, writeState } from "./state.js";
import { showTerms } from "./terms.js";
import { followUpdates } from "./updates.js";

const DELAY = 80; // milliseconds after the last key
const PAGE = 60; // photos
const MOST = 2000;
const element = (id) => document.getElementById(id);

let state = readState();
let upload = null; // a photo in the query that is not in the index
let running = null; // the AbortController of the search in progress
let timer = 0;
let isComplete = true;
let opened = -1;
let defaultIndex = "";

const selection = new Selection(() => grid.clearSelection());
const grid = new Grid(element("grid"), selection, (position) => openPhoto(position));
const detail = new Detail({
  onQuery: (kind, photo) => addPhoto(kind, photo),
  onClose: () => grid.focus(opened),
  onMove: (step) => openPhoto(opened + step),
});

const searches = new SearchHistory({ current: repeatable, onOpen: (entry) => go(entry) });

// The query of an address that repeats the search also if another index becomes the default one; "" for all photos,
// and for an uploaded photo, which is not in the address.
function repeatable() {
  const params = toParams(state);
  params.delete("index");
  if (upload || !params.toString()) return "";
  if (state.index || defaultIndex) params.set("index", state.index || defaultIndex);
  return params.toString();
}

function go(entry) {
  history.pushState(null, "", `/?${entry}`);
  restore();
  element("query").focus();
}

function openPhoto(position) {
  if (position < 0 || position >= grid.photos.length) return;
  opened = position;
  detail.open(grid.photos[position], state.index);
}

async function search({ append = false, replace = true, isSubmitted = false } = {}) {
  clearTimeout(timer);
  running?.abort();
  const controller = new AbortController();
  running = controller;
  const params = toParams(state);
  params.set("k", PAGE);
  if (append) params.set("offset", grid.photos.length);
  if (!append) writeState(state, replace);
  const options = { signal: controller.signal };
  if (upload) Object.assign(options, { method: "POST", body: upload });
  try {
    const started = performance.now();
    const found = await request("search", params, options);
    grid.show(found.hits, state.index, append);
    isComplete = found.hits.length < PAGE || grid.photos.length >= MOST;
    describe(found, performance.now() - started);
    if (!append) searches.searched(isSubmitted);
    if (isSubmitted) grid.focus(0);
  } catch (error) {
    if (error.name === "AbortError") return;
    isComplete = true;
    showError(error);
  } finally {
    if (running === controller) running = null;
  }
  loadMore();
}

function describe(found, milliseconds) {
  element("message").hidden = found.hits.length > 0;
  const unknown = found.unknown_words.length ? ` Unknown words: ${found.unknown_words.join(", ")}.` : "";
  const vanished = found.vanished ? ` Photos that no longer exist: ${found.vanished}. Update the index.` : "";
  const text = `${found.items.toLocaleString("en")} photos in ${found.index}, model ${found.model}, ${Math.round(milliseconds)} ms.`;
  element("status").textContent = `${text}${unknown}${vanished}`;
  if (!grid.photos.length) showMessage("No photo matches.", "Remove a filter, or lower the lowest score.");
  else element("message").hidden = true;
}

function showError(error) {
  element("status").textContent = error.message;
  grid.show([], state.index, false);
  showMessage(error.message, error.hint);
}

function showMessage(text, hint) {
  const heading = document.createElement("h2");
  const code = document.createElement("p");
  heading.textContent = text;
  code.textContent = hint || "";
  element("message").replaceChildren(heading, code);
  element("message").hidden = false;
}

function searchSoon() {
  clearTimeout(timer);
  timer = setTimeout(search, DELAY);
}

function loadMore() {
  const visible = element("end").getBoundingClientRect().top < innerHeight * 2;
  if (!running && !isComplete && visible && grid.photos.length) search({ append: true });
}

function addPhoto(kind, photo) {
  const other = kind === "like" ? "unlike" : "like";
  state[other] = state[other].filter((id) => id !== photo.id);
  if (!state[kind].includes(photo.id)) state[kind].push(photo.id);
  showChips();
  search({ replace: false });
  scrollTo(0, 0);
}

function showChips() {
  const chips = [];
  for (const kind of ["like", "unlike"]) {
    for (const id of state[kind]) {
      const params = new URLSearchParams(state.index ? { index: state.index } : {});
      chips.push(chip(kind, `/api/photos/${id}/thumbnail?${params}`, () => (state[kind] = state[kind].filter((other) => other !== id))));
    }
  }
  if (upload) chips.push(chip("like", URL.createObjectURL(upload), () => (upload = null)));
  element("chips").replaceChildren(...chips);
}

function showTermChips() {
  showTerms(element("terms"), state.q, (line) => {
    element("query").value = state.q = line;
    showTermChips();
    search({ replace: false });
    (element("terms").querySelector("button") || element("query")).focus();
  });
}

function chip(kind, source, remove) {
  const item = document.createElement("li");
  const image = document.createElement("img");
  const button = document.createElement("button");
  item.append(kind === "like" ? "+" : "−", image, button);
  image.src = source;
  image.alt = kind === "like" ? "like this photo" : "unlike this photo";
  button.type = "button";
  button.textContent = "×";
  button.setAttribute("aria-label", `Remove ${image.alt}`);
  button.addEventListener("click", () => {
    remove();
    showChips();
    search({ replace: false });
  });
  return item;
}

function useUpload(file) {
  if (!file) return;
  upload = file;
  showChips();
  search();
}

function fillForm() {
  element("query").value = state.q;
  for (const name of FILTERS) element("search").elements[name].value = state.filters[name] || "";
  if (Object.keys(state.filters).length) element("filters").open = true;
  showChips();
  showTermChips();
}

// The search in the address.
function restore() {
  const before = element("index").value;
  state = readState();
  upload = null;
  fillForm();
  element("index").value = state.index || defaultIndex;
  if (element("index").value !== before) selection.clear();
  search();
}

async function fillIndexes() {
  const found = await request("indexes");
  const select = element("index");
  select.replaceChildren(
    ...found.indexes.map(({ name, photos }) => new Option(`${name} (${photos.toLocaleString("en")})`, name)),
  );
  defaultIndex = found.default || "";
  select.value = state.index || defaultIndex;
  return found.indexes.length > 0;
}

element("query").addEventListener("input", (event) => {
  state.q = event.target.value;
  showTermChips();
  searchSoon();
});
element("search").addEventListener("submit", (event) => {
  event.preventDefault();
  search({ replace: false, isSubmitted: true });
});
element("filters").addEventListener("input", (event) => {
  const { name, value } = event.target;
  if (value.trim()) state.filters[name] = value.trim();
  else delete state.filters[name];
  searchSoon();
});
element("index").addEventListener("change", (event) => {
  state = { ...state, index: event.target.value, like: [], unlike: [] };
  selection.clear();
  showChips();
  search({ replace: false });
});
element("photo").addEventListener("change", (event) => useUpload(event.target.files[0]));
addEventListener("paste", (event) => useUpload([...(event.clipboardData?.files || [])].find((file) => file.type.startsWith("image/"))));
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  useUpload(event.dataTransfer.files[0]);
});
addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "/" && !typing && !element("detail").open) {
    event.preventDefault();
    element("query").select();
  } else if (event.key === "ArrowDown" && event.target === element("query")) {
    event.preventDefault();
    grid.focus(0);
  } else if (event.key === "Enter" && !event.isComposing && event.target.matches("#query, #filters input")) {
    event.preventDefault();
    element("search").requestSubmit(); // browsers do not submit a form of several fields without a button
  } else if (event.key === "Escape" && event.target === element("query")) {
    element("query").value = state.q = "";
    showTermChips();
    searchSoon();
  }
});
addEventListener("popstate", restore);
new IntersectionObserver(loadMore, { rootMargin: "1000px" }).observe(element("end"));

fillForm();
request("status")
  .then((found) => (element("show").hidden = !found.local))
  .catch(() => {}); // the search shows the error
try {
  if (await fillIndexes()) await search();
  else showMessage("There is no index yet.", "Build one: xmodal index FOLDER");
} catch (error) {
  showError(error);
}
element("query").focus();
followUpdates(element("updates"), async () => {
  await fillIndexes();
  if (!element("detail").open && scrollY < innerHeight) search();
});
