import { chmod, copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { run } from '../../scripts/command.ts';
import { packImage } from './pack.ts';

/**
 * Packs the machine's static busybox with all its commands as an image. `files` maps paths in the image to contents; `programs` are
 * paths of static programs that are added to its commands. Without an entrypoint the image runs a shell.
 */
export async function packBusybox(
  archive: string,
  options: {
    names: readonly string[];
    files?: Readonly<Record<string, string>>;
    programs?: readonly string[];
    entrypoint?: readonly string[];
  },
): Promise<void> {
  const root = await mkdtemp(join(dirname(archive), '.busybox-'));
  await chmod(root, 0o755);
  try {
    for (const path of ['bin', 'dev', 'etc', 'proc', 'root', 'sys', 'tmp', 'var/tmp']) {
      await mkdir(join(root, path), { recursive: true });
    }
    await run('chmod', ['1777', join(root, 'tmp'), join(root, 'var/tmp')]);
    await copyFile('/bin/busybox', join(root, 'bin/busybox'));
    for (const applet of (await run('/bin/busybox', ['--list'])).split('\n')) {
      if (applet !== '' && applet !== 'busybox') {
        await symlink('busybox', join(root, 'bin', applet));
      }
    }
    for (const program of options.programs ?? [])
      await copyFile(program, join(root, 'bin', basename(program)));
    const files = {
      'etc/passwd': 'root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:\n',
      'etc/group': 'root:x:0:\nnogroup:x:65534:\n',
      ...options.files,
    };
    for (const [path, content] of Object.entries(files)) {
      await mkdir(join(root, dirname(path)), { recursive: true });
      await writeFile(join(root, path), content);
    }
    await packImage(root, archive, {
      names: options.names,
      ...(options.entrypoint === undefined
        ? { command: ['sh'] }
        : { entrypoint: options.entrypoint }),
    });
  } finally {
    await rm(root, { recursive: true });
  }
}
