import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { constants as osConstants, tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import {
  callNumbers,
  constants,
  errnoName,
  layouts,
  requests,
} from '../../../../src/host/kernel/abi.ts';

/** Aliases that Node lists besides the name of the kernel. */
const aliases: Readonly<Record<string, string>> = {
  EWOULDBLOCK: 'EAGAIN',
  ENOTSUP: 'EOPNOTSUPP',
  EDEADLOCK: 'EDEADLK',
};

test('errno names match those of the system', (t) => {
  for (const [name, errno] of Object.entries(osConstants.errno))
    t.is(errnoName(errno), aliases[name] ?? name);
  t.deepEqual(
    [errnoName(117), errnoName(133), errnoName(41), errnoName(4095)],
    ['EUCLEAN', 'EHWPOISON', 'E41', 'E4095'],
  );
});

/** Definitions of filesystem headers, copied for systems where these are not installed. */
const program = `
#define _GNU_SOURCE
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/btrfs.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/mount.h>
#ifndef MOUNT_ATTR_RDONLY
#include <linux/mount.h>
#endif
#include <linux/openat2.h>
#if __has_include(<xfs/xfs_fs.h>)
#include <xfs/xfs_fs.h>
typedef struct xfs_fsop_geom xfs_fsop_geom_now;
#else
#define XFS_IOC_FSGROWFSDATA _IOW('X', 110, struct xfs_growfs_data)
#define XFS_IOC_FSGEOMETRY _IOR('X', 126, struct xfs_fsop_geom)
struct xfs_growfs_data { uint64_t newblocks; uint32_t imaxpct; };
struct xfs_fsop_geom {
  uint32_t blocksize, rtextsize, agblocks, agcount, logblocks, sectsize, inodesize, imaxpct;
  uint64_t datablocks, rtblocks, rtextents, logstart;
  unsigned char uuid[16];
  uint32_t sunit, swidth;
  int32_t version;
  uint32_t flags, logsectsize, rtsectsize, dirblocksize, logsunit, sick, checked;
  uint64_t reserved[17];
};
#endif
#ifndef EXT4_IOC_RESIZE_FS
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)
#endif
#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif
`;

/** `name value` lines, compared with our values. */
function statements(): string {
  const number = (name: string, expression: string) =>
    `printf("${name} %lld\\n", (long long)(${expression}));`;
  const lines = [
    ...Object.keys(requests).map((name) => number(name, `(unsigned int)${name}`)),
    ...Object.keys(constants).map((name) => number(name, name)),
    ...Object.entries(callNumbers).map(([name]) => number(`SYS_${name}`, `SYS_${name}`)),
  ];
  for (const [name, { fields }] of Object.entries(layouts)) {
    lines.push(number(`${name} size`, `sizeof(struct ${name})`));
    for (const field of Object.keys(fields))
      lines.push(number(`${name}.${field}`, `offsetof(struct ${name}, ${field})`));
  }
  return lines.join('\n');
}

function ours(): string {
  const arch = process.arch === 'x64' ? 'x64' : 'other';
  const lines = [
    ...Object.entries(requests).map(([name, value]) => `${name} ${value}`),
    ...Object.entries(constants).map(([name, value]) => `${name} ${value}`),
    ...Object.entries(callNumbers).map(
      ([name, value]) => `SYS_${name} ${typeof value === 'number' ? value : value[arch]}`,
    ),
  ];
  for (const [name, { size, fields }] of Object.entries(layouts)) {
    lines.push(`${name} size ${size}`);
    for (const [field, offset] of Object.entries(fields)) lines.push(`${name}.${field} ${offset}`);
  }
  return lines.join('\n');
}

const hasCompiler = (() => {
  try {
    execFileSync('cc', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

(hasCompiler ? test : test.skip)(
  'requests, flags and layouts match the kernel headers',
  async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'loopcsi-abi-'));
    try {
      await writeFile(
        join(directory, 'abi.c'),
        `${program}\nint main(void) {\n${statements()}\nreturn 0; }\n`,
      );
      execFileSync('cc', ['-o', join(directory, 'abi'), join(directory, 'abi.c')]);
      t.deepEqual(
        execFileSync(join(directory, 'abi'), { encoding: 'utf8' }).trim().split('\n'),
        ours().split('\n'),
      );
    } finally {
      await rm(directory, { recursive: true });
    }
  },
);
if (!hasCompiler) test('skipped: no C compiler to read the kernel headers', (t) => t.pass());
