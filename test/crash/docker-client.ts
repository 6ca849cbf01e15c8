import { request } from 'node:http';
import { scaledMs } from '../helpers/slowness.ts';

/** One call of the volume plugin API. Throws when the connection breaks, and when the response has an `Err`. */
export async function dockerCall(
  socketPath: string,
  call: string,
  body: Readonly<Record<string, unknown>>,
): Promise<Readonly<Record<string, unknown>>> {
  const text = await new Promise<string>((resolve, reject) => {
    const sent = request(
      { socketPath, path: `/VolumeDriver.${call}`, method: 'POST', timeout: scaledMs(60_000) },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.once('error', reject);
        response.once('end', () => {
          resolve(Buffer.concat(chunks).toString('utf8'));
        });
      },
    );
    sent.once('error', reject);
    sent.once('timeout', () => sent.destroy(new Error(`${call} took too long`)));
    sent.end(JSON.stringify(body));
  });
  const answer = JSON.parse(text) as Readonly<Record<string, unknown>>;
  const { Err: problem } = answer;
  if (typeof problem === 'string' && problem !== '') throw new Error(`${call}: ${problem}`);
  return answer;
}
