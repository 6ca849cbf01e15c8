/** CRC-32C (Castagnoli, RFC 3720 appendix B.4), reflected polynomial, one byte at a time. */
const table = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit += 1) value = (value >>> 1) ^ (value & 1 ? 0x82f63b78 : 0);
  return value;
});

/**
 * The CRC register after `bytes`, starting with `seed`, without the final inversion. ext4 stores this value; XFS and
 * btrfs store its complement. Superblocks have at most 4 KiB, so a byte-wise table is fast enough.
 */
export function crc32c(bytes: Uint8Array, seed = 0xffffffff): number {
  let register = seed;
  for (const byte of bytes) register = (table[(register ^ byte) & 0xff] ?? 0) ^ (register >>> 8);
  return register >>> 0;
}

/** CRC-32C with the final inversion, as most formats store it. */
export function crc32cInverted(bytes: Uint8Array): number {
  return ~crc32c(bytes) >>> 0;
}
