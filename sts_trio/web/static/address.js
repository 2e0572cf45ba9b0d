// Where the server is.

/** Without the password that this page's address may hold: no request may be made to such a URL. */
export function here(path) {
  return new URL(path, location.origin + location.pathname);
}
