/** Generates files in src/csi from csi-proto/. With `--check`, it writes nothing, and exits with 1 if a file is out of date. */
import { readFile, writeFile } from 'node:fs/promises';
import { descriptorText } from './csi-descriptor.ts';
import { protoPath, protoSources, readProto, repositoryUrl } from './csi-proto.ts';
import { typesText } from './csi-types.ts';

const check = process.argv.includes('--check');
const stale: string[] = [];

for (const source of protoSources) {
  const root = readProto(protoPath(source));
  const texts = [
    { path: source.types, text: typesText(root, source) },
    { path: source.descriptor, text: descriptorText(root, source) },
  ];
  for (const { path, text } of texts) {
    const url = new URL(path, repositoryUrl);
    const current = await readFile(url, 'utf8').catch(() => '');
    if (current === text) continue;
    stale.push(path);
    if (!check) await writeFile(url, text);
  }
}

if (stale.length > 0) {
  const list = stale.join(', ');
  console.log(
    check
      ? `out of date: ${list}; run \`npm run generate\` and commit the result`
      : `wrote ${list}`,
  );
  if (check) process.exitCode = 1;
}
