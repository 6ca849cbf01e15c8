import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import test from 'ava';
import * as v from 'valibot';

const root = join(import.meta.dirname, '..', '..', '..');

/** Imports that .oxlintrc.json must allow or forbid. The test creates the files. */
const arrows: readonly { from: string; to: string; allowed: boolean }[] = [
  { from: 'src/errors.ts', to: 'src/units.ts', allowed: false },
  { from: 'src/async.ts', to: 'src/errors.ts', allowed: false },
  { from: 'src/host/loop/scan.ts', to: 'src/async.ts', allowed: true },
  { from: 'src/state/known-pools.ts', to: 'src/async.ts', allowed: true },
  { from: 'src/units.ts', to: 'src/errors.ts', allowed: true },
  { from: 'src/units.ts', to: 'src/observe/log.ts', allowed: false },
  { from: 'src/ids.ts', to: 'src/state/ids.ts', allowed: true },
  { from: 'src/ids.ts', to: 'src/units.ts', allowed: false },
  { from: 'src/observe/metrics.ts', to: 'src/units.ts', allowed: true },
  { from: 'src/observe/http.ts', to: 'src/async.ts', allowed: true },
  { from: 'src/observe/metrics.ts', to: 'src/ids.ts', allowed: false },
  { from: 'src/observe/deep/a.ts', to: 'src/ids.ts', allowed: false },
  { from: 'src/tls/credentials.ts', to: 'src/observe/log.ts', allowed: true },
  { from: 'src/tls/credentials.ts', to: 'src/async.ts', allowed: true },
  { from: 'src/tls/credentials.ts', to: 'src/rpc/status.ts', allowed: false },
  { from: 'src/tls/credentials.ts', to: 'src/ids.ts', allowed: false },
  { from: 'src/volumes/create.ts', to: 'src/tls/roles.ts', allowed: false },
  { from: 'src/host/loop/devices.ts', to: 'src/tls/roles.ts', allowed: false },
  { from: 'src/state/records.ts', to: 'src/tls/roles.ts', allowed: false },
  { from: 'src/csi/codec.ts', to: 'src/tls/roles.ts', allowed: false },
  { from: 'src/host/loop/devices.ts', to: 'src/observe/log.ts', allowed: true },
  { from: 'src/host/loop/devices.ts', to: 'src/ids.ts', allowed: false },
  { from: 'src/host/filesystem/ext4/ext4.ts', to: 'src/state/records.ts', allowed: false },
  { from: 'src/host/loop/devices.ts', to: 'src/config/load.ts', allowed: false },
  { from: 'src/state/records.ts', to: 'src/errors.ts', allowed: true },
  { from: 'src/state/records.ts', to: 'src/host/host.ts', allowed: false },
  { from: 'src/state/records.ts', to: 'src/ids.ts', allowed: false },
  { from: 'src/volumes/create.ts', to: 'src/host/host.ts', allowed: true },
  { from: 'src/volumes/create.ts', to: 'src/state/records.ts', allowed: true },
  { from: 'src/volumes/create.ts', to: 'src/csi/types.ts', allowed: false },
  { from: 'src/volumes/create.ts', to: 'src/rpc/status.ts', allowed: false },
  { from: 'src/volumes/deep/a.ts', to: 'src/docker/plugin.ts', allowed: false },
  { from: 'src/volumes/engine/a.ts', to: 'src/volumes/jobs/b.ts', allowed: false },
  { from: 'src/volumes/engine/a.ts', to: 'src/volumes/open.ts', allowed: false },
  { from: 'src/volumes/engine/a.ts', to: 'src/rpc/status.ts', allowed: false },
  { from: 'src/volumes/parameters/a.ts', to: 'src/volumes/engine/b.ts', allowed: false },
  { from: 'src/volumes/parameters/a.ts', to: 'src/volumes/open.ts', allowed: false },
  { from: 'src/volumes/parameters/a.ts', to: 'src/rpc/status.ts', allowed: false },
  { from: 'src/volumes/pool/a.ts', to: 'src/volumes/jobs/b.ts', allowed: false },
  { from: 'src/volumes/pool/a.ts', to: 'src/volumes/parameters/b.ts', allowed: true },
  { from: 'src/volumes/pool/a.ts', to: 'src/volumes/open.ts', allowed: false },
  { from: 'src/volumes/pool/a.ts', to: 'src/rpc/status.ts', allowed: false },
  { from: 'src/volumes/jobs/a.ts', to: 'src/volumes/attachment/b.ts', allowed: false },
  { from: 'src/volumes/jobs/a.ts', to: 'src/volumes/pool/b.ts', allowed: true },
  { from: 'src/volumes/jobs/a.ts', to: 'src/volumes/open.ts', allowed: false },
  { from: 'src/volumes/jobs/a.ts', to: 'src/rpc/status.ts', allowed: false },
  { from: 'src/volumes/attachment/a.ts', to: 'src/volumes/snapshot/b.ts', allowed: false },
  { from: 'src/volumes/attachment/a.ts', to: 'src/volumes/jobs/b.ts', allowed: true },
  { from: 'src/volumes/attachment/a.ts', to: 'src/volumes/open.ts', allowed: false },
  { from: 'src/volumes/attachment/a.ts', to: 'src/rpc/status.ts', allowed: false },
  { from: 'src/volumes/snapshot/a.ts', to: 'src/volumes/volume/b.ts', allowed: false },
  { from: 'src/volumes/snapshot/a.ts', to: 'src/volumes/attachment/b.ts', allowed: true },
  { from: 'src/volumes/snapshot/a.ts', to: 'src/volumes/open.ts', allowed: false },
  { from: 'src/volumes/snapshot/a.ts', to: 'src/rpc/status.ts', allowed: false },
  { from: 'src/volumes/volume/a.ts', to: 'src/volumes/node/b.ts', allowed: false },
  { from: 'src/volumes/volume/a.ts', to: 'src/volumes/snapshot/b.ts', allowed: true },
  { from: 'src/volumes/volume/a.ts', to: 'src/volumes/open.ts', allowed: false },
  { from: 'src/volumes/volume/a.ts', to: 'src/rpc/status.ts', allowed: false },
  { from: 'src/volumes/node/a.ts', to: 'src/volumes/docker/b.ts', allowed: false },
  { from: 'src/volumes/node/a.ts', to: 'src/volumes/volume/b.ts', allowed: true },
  { from: 'src/volumes/node/a.ts', to: 'src/volumes/open.ts', allowed: false },
  { from: 'src/volumes/node/a.ts', to: 'src/rpc/status.ts', allowed: false },
  { from: 'src/volumes/node/a.ts', to: 'src/volumes/recovery/b.ts', allowed: false },
  { from: 'src/volumes/recovery/a.ts', to: 'src/volumes/docker/b.ts', allowed: false },
  { from: 'src/volumes/recovery/a.ts', to: 'src/volumes/node/b.ts', allowed: true },
  { from: 'src/volumes/recovery/a.ts', to: 'src/volumes/open.ts', allowed: false },
  { from: 'src/volumes/recovery/a.ts', to: 'src/rpc/status.ts', allowed: false },
  { from: 'src/volumes/docker/a.ts', to: 'src/volumes/admin/b.ts', allowed: false },
  { from: 'src/volumes/docker/a.ts', to: 'src/volumes/node/b.ts', allowed: true },
  { from: 'src/volumes/docker/a.ts', to: 'src/volumes/open.ts', allowed: false },
  { from: 'src/volumes/docker/a.ts', to: 'src/rpc/status.ts', allowed: false },
  { from: 'src/volumes/admin/a.ts', to: 'src/volumes/docker/b.ts', allowed: true },
  { from: 'src/volumes/admin/a.ts', to: 'src/volumes/open.ts', allowed: false },
  { from: 'src/volumes/admin/a.ts', to: 'src/rpc/status.ts', allowed: false },
  { from: 'src/volumes/jobs/a.ts', to: 'src/volumes/domain.ts', allowed: false },
  { from: 'src/volumes/attachment/a.ts', to: 'src/volumes/domain.ts', allowed: true },
  { from: 'src/volumes/domain.ts', to: 'src/volumes/jobs/a.ts', allowed: true },
  { from: 'src/volumes/domain.ts', to: 'src/volumes/attachment/a.ts', allowed: false },
  { from: 'src/ids.ts', to: 'src/volumes/pool/a.ts', allowed: false },
  { from: 'src/volumes/open.ts', to: 'src/volumes/docker/a.ts', allowed: true },
  { from: 'src/volumes/open.ts', to: 'src/docker/plugin.ts', allowed: false },
  { from: 'src/volumes/admin/pools/a.ts', to: 'src/volumes/docker/b.ts', allowed: true },
  { from: 'src/volumes/admin/pools/a.ts', to: 'src/volumes/admin/b.ts', allowed: false },
  { from: 'src/volumes/admin/pools/a.ts', to: 'src/docker/plugin.ts', allowed: false },
  { from: 'src/volumes/admin/pools/a.ts', to: 'src/volumes/open.ts', allowed: false },
  { from: 'src/volumes/create.ts', to: 'node:fs', allowed: false },
  { from: 'src/volumes/deep/a.ts', to: 'node:fs/promises', allowed: false },
  { from: 'src/volumes/create.ts', to: 'fs/promises', allowed: false },
  { from: 'src/volumes/create.ts', to: 'node:path', allowed: true },
  { from: 'src/state/records.ts', to: 'node:fs', allowed: false },
  { from: 'src/state/records.ts', to: 'node:fs/promises', allowed: false },
  { from: 'src/host/loop/devices.ts', to: 'node:fs/promises', allowed: true },
  { from: 'src/host/errors.ts', to: 'src/host/host.ts', allowed: false },
  { from: 'src/host/host.ts', to: 'src/host/kernel/abi.ts', allowed: false },
  { from: 'src/host/kernel/calls.ts', to: 'src/host/kernel/abi.ts', allowed: true },
  { from: 'src/host/kernel/calls.ts', to: 'src/host/host.ts', allowed: true },
  { from: 'src/host/kernel/node-facts.ts', to: 'src/host/programs/run.ts', allowed: false },
  { from: 'src/host/programs/run.ts', to: 'src/host/kernel/calls.ts', allowed: true },
  { from: 'src/host/programs/run.ts', to: 'src/host/files/files.ts', allowed: false },
  { from: 'src/host/files/copy.ts', to: 'src/host/programs/image-lock.ts', allowed: true },
  { from: 'src/host/files/files.ts', to: 'src/host/mount/mountinfo.ts', allowed: false },
  { from: 'src/host/mount/mounts.ts', to: 'src/host/files/files.ts', allowed: true },
  { from: 'src/host/mount/users.ts', to: 'src/host/loop/scan.ts', allowed: false },
  { from: 'src/host/loop/devices.ts', to: 'src/host/mount/mountinfo.ts', allowed: true },
  { from: 'src/host/loop/devices.ts', to: 'src/host/freeze/freezer.ts', allowed: false },
  { from: 'src/host/freeze/group.ts', to: 'src/host/mount/open-mounted.ts', allowed: true },
  { from: 'src/host/freeze/group.ts', to: 'src/host/filesystem/filesystems.ts', allowed: false },
  { from: 'src/host/freeze/group.ts', to: 'src/host/real-host.ts', allowed: false },
  {
    from: 'src/host/filesystem/filesystems.ts',
    to: 'src/host/filesystem/xfs/xfs.ts',
    allowed: true,
  },
  { from: 'src/host/filesystem/xfs/xfs.ts', to: 'src/host/filesystem/grow.ts', allowed: true },
  {
    from: 'src/host/filesystem/xfs/xfs.ts',
    to: 'src/host/filesystem/ext4/superblock.ts',
    allowed: false,
  },
  {
    from: 'src/host/filesystem/xfs/xfs.ts',
    to: 'src/host/filesystem/filesystems.ts',
    allowed: false,
  },
  { from: 'src/host/filesystem/ext4/ext4.ts', to: 'src/host/programs/run.ts', allowed: true },
  { from: 'src/host/kernel/abi.ts', to: 'src/ids.ts', allowed: false },
  { from: 'src/host/programs/run.ts', to: 'src/ids.ts', allowed: false },
  { from: 'src/host/files/files.ts', to: 'src/ids.ts', allowed: false },
  { from: 'src/host/mount/mounts.ts', to: 'src/ids.ts', allowed: false },
  { from: 'src/host/freeze/group.ts', to: 'src/ids.ts', allowed: false },
  { from: 'src/csi/codec.ts', to: 'src/volumes/model.ts', allowed: false },
  { from: 'src/rpc/node.ts', to: 'src/volumes/create.ts', allowed: true },
  { from: 'src/rpc/node.ts', to: 'src/csi/types.ts', allowed: true },
  { from: 'src/rpc/node.ts', to: 'src/host/host.ts', allowed: true },
  { from: 'src/rpc/node.ts', to: 'src/host/programs/run.ts', allowed: false },
  { from: 'src/rpc/node.ts', to: 'src/state/records.ts', allowed: false },
  { from: 'src/rpc/node.ts', to: 'src/docker/plugin.ts', allowed: false },
  { from: 'src/rpc/node.ts', to: 'src/controller/agents.ts', allowed: false },
  { from: 'src/controller/agents.ts', to: 'src/rpc/status.ts', allowed: true },
  { from: 'src/controller/agents.ts', to: 'src/csi/client.ts', allowed: true },
  { from: 'src/controller/agents.ts', to: 'src/ids.ts', allowed: true },
  { from: 'src/controller/agents.ts', to: 'src/tls/roles.ts', allowed: true },
  { from: 'src/controller/agents.ts', to: 'src/volumes/model.ts', allowed: false },
  { from: 'src/controller/deep/a.ts', to: 'src/host/host.ts', allowed: false },
  { from: 'src/controller/agents.ts', to: 'src/state/records.ts', allowed: false },
  { from: 'src/controller/agents.ts', to: 'src/cli/volume.ts', allowed: false },
  { from: 'src/controller/agents.ts', to: 'src/config/load.ts', allowed: false },
  { from: 'src/docker/plugin.ts', to: 'src/volumes/create.ts', allowed: true },
  { from: 'src/docker/plugin.ts', to: 'src/rpc/status.ts', allowed: false },
  { from: 'src/docker/plugin.ts', to: 'src/csi/types.ts', allowed: false },
  { from: 'src/cli/volume.ts', to: 'src/csi/client.ts', allowed: true },
  { from: 'src/cli/volume.ts', to: 'src/rpc/status.ts', allowed: false },
  { from: 'src/cli/volume.ts', to: 'src/state/records.ts', allowed: false },
  { from: 'src/cli/volume.ts', to: 'src/main.ts', allowed: false },
  { from: 'src/cli/volume.ts', to: 'src/serve.ts', allowed: false },
  { from: 'src/cli/volume.ts', to: 'src/config/options.ts', allowed: true },
  { from: 'src/volumes/create.ts', to: 'src/config/values.ts', allowed: false },
  { from: 'src/rpc/node.ts', to: 'src/serve.ts', allowed: false },
  { from: 'src/config/load.ts', to: 'src/rpc/status.ts', allowed: false },
  { from: 'src/config/load.ts', to: 'src/serve.ts', allowed: false },
  { from: 'src/config/load.ts', to: 'src/ids.ts', allowed: true },
  { from: 'src/serve.ts', to: 'src/rpc/status.ts', allowed: true },
  { from: 'src/main.ts', to: 'src/rpc/status.ts', allowed: true },
];

const report = v.object({
  diagnostics: v.array(v.object({ code: v.string(), filename: v.string() })),
});

/** Returns the files of `directory` in which oxlint reports a forbidden import, with the rules of the repository. */
function filesRefused(directory: string): ReadonlySet<string> {
  const oxlint = join(root, 'node_modules', '.bin', 'oxlint');
  let output: string;
  try {
    output = execFileSync(oxlint, ['--format', 'json'], { cwd: directory, encoding: 'utf8' });
  } catch (error) {
    // oxlint exits with 1 if it reports anything.
    output = v.parse(v.object({ stdout: v.string() }), error).stdout;
  }
  return new Set(
    v
      .parse(report, JSON.parse(output))
      .diagnostics.filter(({ code }) => code.includes('no-restricted-imports'))
      .map(({ filename }) => filename),
  );
}

/** The import specifier in `from` for `to`, a file of the tree or a module of Node.js. */
function specifierOf({ from, to }: { from: string; to: string }, tree: string): string {
  if (!to.startsWith('src/')) return to;
  const path = relative(dirname(join(tree, from)), join(tree, to));
  return path.startsWith('.') ? path : `./${path}`;
}

test('.oxlintrc.json allows downward imports only', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'loopcsi-arrows-'));
  t.teardown(() => {
    rmSync(directory, { recursive: true });
  });
  const refused = arrows.map((arrow, index) => {
    // Each row gets its own tree, because two rows may have the same `from`.
    const tree = join(directory, String(index));
    const from = join(tree, arrow.from);
    mkdirSync(dirname(from), { recursive: true });
    copyFileSync(join(root, '.oxlintrc.json'), join(tree, '.oxlintrc.json'));
    writeFileSync(from, `import { a } from '${specifierOf(arrow, tree)}';\na();\n`);
    return { tree, arrow };
  });
  const found = filesRefused(directory);
  for (const { tree, arrow } of refused) {
    const path = relative(directory, join(tree, arrow.from));
    t.is(!found.has(path), arrow.allowed, `${arrow.from} → ${arrow.to}`);
  }
});
