import { readFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import test from 'ava';
import { majorMinorOf } from '../../../../src/host/kernel/descriptor.ts';
import {
  hasCapability,
  readFacts,
  readSupportedFilesystems,
} from '../../../../src/host/kernel/node-facts.ts';
import { driverLane } from '../../../../src/host/lane.ts';

for (const { mask, capability, expected } of [
  { mask: '000001ffffffffff', capability: 24n, expected: true },
  { mask: '000001fffeffffff', capability: 24n, expected: false },
  { mask: '0000000000000000', capability: 0n, expected: false },
  { mask: '0000000000000001', capability: 0n, expected: true },
]) {
  test(`capability ${capability} in ${mask}: ${expected ? 'present' : 'missing'}`, (t) => {
    const status = `CapPrm:\t000001ffffffffff\nCapEff:\t${mask}\nCapBnd:\t000001ffffffffff\n`;
    t.is(hasCapability(status, capability), expected);
  });
}

test('a process status without a capability mask has no capability', (t) => {
  t.false(hasCapability('Name:\tnode\n', 24n));
});

test('node facts describe this process', (t) => {
  const { kernelRelease, canGrowExt4Online, canMount } = readFacts();
  t.is(kernelRelease, readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim());
  const status = readFileSync('/proc/self/status', 'utf8');
  t.is(canGrowExt4Online, hasCapability(status, 24n));
  t.is(canMount, hasCapability(status, 21n));
});

test('filesystems without a device are supported too', async (t) => {
  const supported = await readSupportedFilesystems(driverLane);
  t.true(supported.has('proc'));
  t.false(supported.has('nodev'));
});

for (const { device, expected } of [
  { device: 0x0700n, expected: '7:0' },
  { device: 0x07ffn, expected: '7:255' },
  { device: 0x10_0700n, expected: '7:256' },
  { device: 0xfe00n, expected: '254:0' },
  { device: 0x1_0301n, expected: '259:1' },
]) {
  test(`device number ${device.toString(16)} is ${expected}`, (t) => {
    t.is(majorMinorOf(device), expected);
  });
}

test('device numbers have the form of mountinfo', async (t) => {
  const { dev } = await stat('/proc', { bigint: true });
  const line = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .findLast((one) => one.split(' ')[4] === '/proc');
  t.is(majorMinorOf(dev), line?.split(' ')[2] ?? 'no /proc');
});
