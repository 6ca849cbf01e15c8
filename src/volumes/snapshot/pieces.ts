/**
 * The data of an image on its way between two nodes. Each piece has the digest of all pieces up to and including it, so a piece that is
 * damaged, misplaced or missing is noticed before anything of it is written.
 */
import { createHash } from 'node:crypto';

/** The digest of no pieces. */
export const noPieces = Buffer.alloc(32);

/**
 * The digest of all pieces up to and including this one, from the digest of those before it. Only 32 bytes have to be known of what
 * came before, so a reader that was interrupted can go on.
 */
export function digestWith(
  digest: Buffer,
  { offset, data }: { readonly offset: bigint; readonly data: Uint8Array },
): Buffer {
  const place = Buffer.alloc(8);
  place.writeBigUInt64BE(offset);
  const ofData = createHash('sha256').update(data).digest();
  return createHash('sha256').update(digest).update(place).update(ofData).digest();
}
