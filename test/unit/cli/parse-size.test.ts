import test from 'ava';
import { parseNewSize, parseSize } from '../../../src/cli/parse-size.ts';
import { formatBytes, formatExactBytes, GiB, MiB, parseBytes } from '../../../src/units.ts';

for (const { text, bytes } of [
  { text: '10Gi', bytes: 10n * GiB },
  { text: '10G', bytes: 10_000_000_000n },
  { text: '1.5Gi', bytes: 1536n * MiB },
  { text: '0.1Ki', bytes: 103n },
  { text: '10B', bytes: 10n },
  { text: '1048576', bytes: MiB },
]) {
  test(`parseSize: ${text} is ${bytes} bytes`, (t) => {
    t.is(parseSize(text, '--size'), bytes);
  });
}

for (const { text, message } of [
  { text: '10', message: /^--size: '10' has no unit; did you mean 10Gi or 10Mi\? Write 10B for/ },
  {
    text: '10gb',
    message: /'10gb' is not a size; did you mean 10Gi \(binary\) or 10G \(decimal\)/,
  },
  {
    text: '10GB',
    message: /'10GB' is not a size; did you mean 10Gi \(binary\) or 10G \(decimal\)/,
  },
  { text: '10GiB', message: /'10GiB' is not a size; did you mean 10Gi\?/ },
  { text: '1.5B', message: /is not a size; use a value such as/ },
  { text: '2.5t', message: /did you mean 2\.5Ti \(binary\) or 2\.5T \(decimal\)/ },
  { text: '1.5', message: /is not a size; use a value such as/ },
  { text: '1.Gi', message: /is not a size; use a value such as/ },
  { text: '0Gi', message: /is zero/ },
  { text: '+5Gi', message: /'\+5Gi' is not a size/ },
]) {
  test(`parseSize: ${text} is refused`, (t) => {
    t.throws(() => parseSize(text, '--size'), { message });
  });
}

test('parseNewSize: a plus makes it an increase', (t) => {
  t.is(parseNewSize('20Gi', '--size')(GiB), 20n * GiB);
  t.is(parseNewSize('+5Gi', '--size')(GiB), 6n * GiB);
  t.throws(() => parseNewSize('+5', '--size'), { message: /'5' has no unit/ });
});

for (const { bytes, exact, rounded } of [
  { bytes: 1500n * MiB, exact: '1500 MiB', rounded: '1.4 GiB' },
  { bytes: 1024n * GiB, exact: '1 TiB', rounded: '1 TiB' },
  { bytes: 1025n, exact: '1025 B', rounded: '1 KiB' },
  { bytes: 0n, exact: '0 B', rounded: '0 B' },
  { bytes: -1536n * MiB, exact: '-1536 MiB', rounded: '-1.5 GiB' },
]) {
  test(`${bytes} bytes are exactly ${exact}, about ${rounded}`, (t) => {
    t.is(formatExactBytes(bytes), exact);
    t.is(formatBytes(bytes), rounded);
    if (bytes >= 0n) t.is(parseBytes(exact.replace(' ', '').replace('iB', 'i')), bytes);
  });
}
