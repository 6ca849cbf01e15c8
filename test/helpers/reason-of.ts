import { VolumeError } from '../../src/errors.ts';

/** How the work ended: the Reason of a VolumeError, the text of another error, or `ok`. */
export async function reasonOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    return error instanceof VolumeError ? error.reason : String(error);
  }
  return 'ok';
}
