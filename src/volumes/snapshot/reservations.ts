import type { Pool } from '../pool/pool.ts';

/** Bytes reserved in one pool for images that are being captured. */
export interface CaptureReservation {
  readonly pool: Pool;
  readonly bytes: bigint;
  readonly release: () => void;
}

/**
 * Raises the reservation in `pool` to `bytes`. Callers first reserve the allocated size of the source, which may be rewritten
 * completely after the snapshot, then that of the captured image, since the source may have been written to before the capture.
 */
export async function reserveUpTo(
  reserved: CaptureReservation[],
  wanted: { readonly pool: Pool; readonly bytes: bigint; readonly subject: string },
): Promise<void> {
  const { pool, subject } = wanted;
  const missing = reserved.reduce(
    (bytes, one) => (one.pool === pool ? bytes - one.bytes : bytes),
    wanted.bytes,
  );
  if (missing <= 0n) return;
  const reservation = await pool.space.reserve(missing, subject);
  reserved.push({ pool, bytes: missing, release: () => reservation.release() });
}

/** Releases all reservations. The pools are measured again, since their last measurement may be older than the captured images. */
export function releaseAll(reserved: readonly CaptureReservation[]): void {
  for (const { pool, release } of reserved) {
    pool.space.invalidate();
    release();
  }
}
