// The query is in the address of the page, so that a link repeats it. An uploaded photo is not part of it.

export const FILTERS = ["in", "after", "before", "threshold"];

export function readState() {
  const params = new URLSearchParams(location.search);
  const state = { q: params.get("q") || "", index: params.get("index") || "", like: [], unlike: [], filters: {} };
  for (const name of FILTERS) if (params.get(name)) state.filters[name] = params.get(name);
  for (const name of ["like", "unlike"]) state[name] = params.getAll(name).map(Number).filter(Number.isSafeInteger);
  return state;
}

export function toParams(state) {
  const params = new URLSearchParams();
  if (state.q.trim()) params.set("q", state.q.trim());
  if (state.index) params.set("index", state.index);
  for (const [name, value] of Object.entries(state.filters)) params.set(name, value);
  for (const name of ["like", "unlike"]) for (const id of state[name]) params.append(name, id);
  return params;
}

export function writeState(state, replace) {
  const query = toParams(state).toString();
  const address = query ? `/?${query}` : "/";
  if (address === location.pathname + location.search) return;
  if (replace) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
}
