import { type DriverProcess, portOf } from './driver.ts';

/** A flag that makes the driver choose a free port, which `portOf` finds in its log. */
export const httpFlag = '--http-address=127.0.0.1:0';

/** The address of /metrics of a driver started with `httpFlag`. */
export async function metricsUrl(driver: DriverProcess): Promise<string> {
  return `http://127.0.0.1:${await portOf(driver, 'httpPort')}/metrics`;
}

/** Returns all metrics in the Prometheus text format. Throws if the driver cannot collect them. */
export async function scrape(url: string): Promise<string> {
  // A connection that was kept could be closed by the driver, as idle, at the moment when it is used again.
  const headers = { connection: 'close' };
  const response = await fetch(url, { headers, signal: AbortSignal.timeout(10_000) });
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  return response.text();
}
