import type { Pool } from '../pool/pool.ts';
import type { Reservation } from '../pool/space.ts';

/**
 * Room for a snapshot: as much as its source has allocated, since from now on the source may be rewritten whole. It may write
 * while the capture is being prepared, so what the capture really holds is asked for once more.
 */
export class RoomForCut {
  readonly #pool: Pool;
  readonly #what: string;
  readonly #held: Reservation[] = [];
  #bytes = 0n;

  private constructor(pool: Pool, what: string) {
    this.#pool = pool;
    this.#what = what;
  }

  static async reserve(pool: Pool, bytes: bigint, what: string): Promise<RoomForCut> {
    const room = new RoomForCut(pool, what);
    await room.extendTo(bytes);
    return room;
  }

  async extendTo(bytes: bigint): Promise<void> {
    if (bytes <= this.#bytes) return;
    this.#held.push(await this.#pool.space.reserve(bytes - this.#bytes, this.#what));
    this.#bytes = bytes;
  }

  /** What was measured before the capture knows nothing of it, so it is measured again. */
  release(): void {
    this.#pool.space.invalidate();
    for (const reservation of this.#held) reservation.release();
  }
}
