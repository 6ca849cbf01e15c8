import test from 'ava';
import { podsCgroupIn } from '../../../src/host/loop/device-limits.ts';
import { formatIoMax, noLimits, parseIoMax } from '../../../src/host/loop/io-limits.ts';

test('a line of io.max is written with every key, and read without other devices', (t) => {
  const limits = { ...noLimits, writeBytesPerSecond: 1_048_576n, readIops: 500n };
  const line = formatIoMax('7:3', limits);
  t.is(line, '7:3 rbps=max wbps=1048576 riops=500 wiops=max');
  const text = `8:0 rbps=1 wbps=max riops=max wiops=max\n${line}\n7:4 rbps=max wbps=max riops=max wiops=max\n`;
  t.deepEqual([...parseIoMax(text)], [['7:3', limits]]);
  t.deepEqual([...parseIoMax('')], []);
});

for (const { text, found } of [
  { text: '0::/kubepods.slice/kubepods-burstable.slice/cri-a.scope\n', found: '/kubepods.slice' },
  { text: '0::/kubepods/besteffort/pod1/abc\n', found: '/kubepods' },
  {
    text: '0::/kubelet.slice/kubelet-kubepods.slice/a\n',
    found: '/kubelet.slice/kubelet-kubepods.slice',
  },
  { text: '12:blkio:/kubepods/a\n0::/system.slice/loopcsi.service\n', found: undefined },
  { text: '0::/\n', found: undefined },
] as const) {
  test(`the cgroup of all pods in ${JSON.stringify(text)} is ${found ?? 'none'}`, (t) => {
    t.is(podsCgroupIn(text), found);
  });
}
