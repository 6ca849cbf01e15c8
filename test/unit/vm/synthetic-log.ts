/** Makes logs of dm-log-writes from short descriptions. */

const sectorBytes = 512;

export type Row =
  | { readonly write: number; readonly text: string; readonly fua?: true; readonly flush?: true }
  | { readonly flush: true }
  | { readonly discard: number; readonly sectors: number }
  | { readonly mark: string };

function header(fields: {
  sector?: number;
  sectors?: number;
  flags: number;
  textBytes?: number;
}): Buffer {
  const bytes = Buffer.alloc(sectorBytes);
  bytes.writeBigUInt64LE(BigInt(fields.sector ?? 0), 0);
  bytes.writeBigUInt64LE(BigInt(fields.sectors ?? 0), 8);
  bytes.writeBigUInt64LE(BigInt(fields.flags), 16);
  bytes.writeBigUInt64LE(BigInt(fields.textBytes ?? 0), 24);
  return bytes;
}

function bytesOf(row: Row): readonly Buffer[] {
  if ('mark' in row) {
    const bytes = header({ flags: 8, textBytes: row.mark.length });
    bytes.write(row.mark, 32);
    return [bytes];
  }
  if ('discard' in row) {
    return [header({ sector: row.discard, sectors: row.sectors, flags: 4 })];
  }
  if (!('write' in row)) return [header({ flags: 1 })];
  const sectors = Math.ceil(row.text.length / sectorBytes);
  const data = Buffer.alloc(sectors * sectorBytes);
  data.write(row.text);
  const flags = (row.flush === true ? 1 : 0) | (row.fua === true ? 2 : 0);
  return [header({ sector: row.write, sectors, flags }), data];
}

/** `write` and `discard` name the sector. */
export function syntheticLog(rows: readonly Row[]): Buffer {
  const superblock = Buffer.alloc(sectorBytes);
  superblock.writeBigUInt64LE(0x6a736677736872n, 0);
  superblock.writeBigUInt64LE(1n, 8);
  superblock.writeBigUInt64LE(BigInt(rows.length), 16);
  superblock.writeUInt32LE(sectorBytes, 24);
  return Buffer.concat([superblock, ...rows.flatMap(bytesOf)]);
}
