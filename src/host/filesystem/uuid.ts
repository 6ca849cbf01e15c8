/** Formats the 16 bytes of a UUID in lower case, like the kernel and the filesystem tools. */
export function formatUuid(bytes: Buffer): string {
  return bytes
    .toString('hex', 0, 16)
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Returns `uuid`. Throws a TypeError if it is not a lower-case UUID, since it becomes an argument of a program. */
export function requireUuid(uuid: string): string {
  if (!uuidPattern.test(uuid)) throw new TypeError(`'${uuid}' is not a lower-case UUID`);
  return uuid;
}
