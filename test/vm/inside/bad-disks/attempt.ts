import { type ServiceError, status } from '@grpc/grpc-js';

/** How a call ended. */
export interface Ended {
  /** The name of the gRPC code, or of the errno for a system call. */
  readonly code: string;
  readonly message: string;
  readonly ms: number;
}

export async function attempt(work: () => Promise<unknown>): Promise<Ended> {
  const startedAtMs = Date.now();
  try {
    await work();
    return { code: 'OK', message: '', ms: Date.now() - startedAtMs };
  } catch (error) {
    const { code, details, message } = error as Partial<ServiceError>;
    return {
      code: typeof code === 'number' ? (status[code] ?? String(code)) : String(code),
      message: details ?? message ?? '',
      ms: Date.now() - startedAtMs,
    };
  }
}

/** A line for the test's output. */
export function textOf({ code, message, ms }: Ended): string {
  return `${code} after ${(ms / 1000).toFixed(1)} s${message === '' ? '' : `: ${message}`}`;
}
