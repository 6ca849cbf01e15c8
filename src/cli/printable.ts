/** Names in text: they can contain any character. */

/** Escapes control characters, so that a name cannot break lines or change the terminal's state. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (control) => JSON.stringify(control).slice(1, -1));
}

/** The name, or the id of an object whose name is more than one word in a shell, or is evaluated there. */
export function shellWordOf({ name, id }: { readonly name: string; readonly id: string }): string {
  return /^[\p{L}\p{N}_.@%+,/][\p{L}\p{N}_.@%+,/-]*$/u.test(name) ? name : id;
}
