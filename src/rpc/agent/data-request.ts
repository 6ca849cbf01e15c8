/** The request for the data of a source: the body of the first frame that the reader sends, as fields of a query. */
import { VolumeError } from '../../errors.ts';
import type { ReadPosition, SentCopy } from '../../volumes/model.ts';
import { copyMessage, parseCopy } from './copy-message.ts';

/** What is read, and from where on. */
export interface DataRequest {
  readonly copy: SentCopy;
  /** The state that Describe told. */
  readonly state: string;
  readonly from: ReadPosition;
}

const digestBytes = 32;
/** Far above the largest one. */
export const maxRequestBytes = 16 * 1024;

export function encodeRequest(
  { copy, state, from: { offset, digest } }: DataRequest,
  ticket: string,
): Buffer {
  const query = new URLSearchParams({
    ticket,
    ...copyMessage(copy),
    state,
    offset: String(offset),
    digest: digest.toString('hex'),
  });
  return Buffer.from(query.toString());
}

/** The ticket is apart, because it is a secret. */
export interface ReceivedRequest {
  readonly ticket: string;
  /** May lack anything. */
  readonly fields: Readonly<Record<string, string>>;
}

export function decodeRequest(body: Buffer): ReceivedRequest {
  const { ticket = '', ...fields } = Object.fromEntries(new URLSearchParams(body.toString()));
  return { ticket, fields };
}

/** Throws `invalid` for a request that names no source or no position. */
export function parseRequest({ fields }: ReceivedRequest): DataRequest {
  const { kind = '', id = '', copy_name = '', state = '', offset = '' } = fields;
  const copy = parseCopy({ kind, id, copy_name });
  if (!/^\d{1,18}$/.test(offset)) throw new VolumeError('invalid', 'offset must be a number');
  const digest = Buffer.from(fields['digest'] ?? '', 'hex');
  if (digest.length !== digestBytes)
    throw new VolumeError('invalid', `digest must have ${digestBytes} bytes`);
  return { copy, state, from: { offset: BigInt(offset), digest } };
}
