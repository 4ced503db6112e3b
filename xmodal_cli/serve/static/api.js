// Requests to the HTTP API. An error has the message and the hint of the server.

export class ApiError extends Error {
  constructor(problem) {
    super(problem.title);
    this.hint = problem.hint || "";
    this.status = problem.status;
  }
}

export async function request(path, params, options = {}) {
  const query = params ? `?${params}` : "";
  let response;
  try {
    response = await fetch(`/api/${path}${query}`, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError({ title: "The server does not respond.", hint: "Start it again: xmodal serve", status: 0 });
  }
  if (response.status === 204) return null;
  const body = await response.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    return { title: `The server responded with status ${response.status}.`, status: response.status };
  });
  if (!response.ok) throw new ApiError(body);
  return body;
}

// The address of a view of a photo: with the digest in it, the browser may keep it.
export function viewOf(photo, kind, index) {
  const params = new URLSearchParams({ v: photo.v || "" });
  if (index) params.set("index", index);
  return `/api/photos/${photo.id}/${kind}?${params}`;
}
