import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { reasons, VolumeError } from '../../../src/errors.ts';
import { codeName, toStatus } from '../../../src/rpc/status.ts';

const page = readFileSync(
  join(import.meta.dirname, '..', '..', '..', '..', 'docs', 'errors.md'),
  'utf8',
);

for (const reason of reasons) {
  test(`docs/errors.md names the code of ${reason}`, (t) => {
    const { code } = toStatus(new VolumeError(reason, 'x'));
    t.true(page.includes(`\n| ${reason} | ${code} ${codeName(code)} | `));
  });
}
