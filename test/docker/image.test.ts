/** Loading an image into a real dockerd. The image is a small one: building the driver's needs a network, which the node lacks. */
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { attempt } from '../../scripts/command.ts';
import { type Daemon, startDaemon } from './daemon.ts';
import { busybox, type Lab, makeNode, type NodeSpace, openLab } from './lab.ts';

const command = join(import.meta.dirname, '..', '..', 'scripts', 'image', 'main.js');

let lab: Lab;
let node: NodeSpace;
let daemon: Daemon;

test.before(async () => {
  lab = await openLab();
  node = await makeNode(lab, 'a');
  daemon = await startDaemon(lab, node);
});
test.after.always('nothing is left behind', async () => {
  const left = await lab.close();
  if (left.length > 0) throw new Error(`left behind: ${left.join('; ')}`);
});

/** A buildah whose build does nothing, and which has one image: that of the lab. */
async function makeBuilder(): Promise<string> {
  const directory = join(node.directory, 'bin');
  await mkdir(directory);
  const path = join(directory, 'buildah');
  const push = `target=\${4#docker-archive:}; exec cp ${lab.imageArchive} "\${target%%:*}"`;
  await writeFile(path, `#!/bin/sh\n[ "$1" != push ] || { ${push}; }\n`);
  await chmod(path, 0o755);
  return directory;
}

test.serial('npm run image loads its archive into docker, whose image then runs', async (t) => {
  const directory = await makeBuilder();
  await daemon.docker('image', 'rm', busybox);
  const args = [command, '--with', 'buildah', '--tag', busybox, '--load', 'docker'];
  const env = { PATH: `${directory}:/usr/bin:/bin`, DOCKER_HOST: `unix://${daemon.socket}` };
  const loaded = await attempt(process.execPath, args, { env });
  t.is(loaded.exitCode, 0, loaded.stderr);
  t.regex(loaded.stdout, /^Loaded it into docker\.$/m);
  t.is(await daemon.docker('run', '--rm', busybox, 'echo', 'runs'), 'runs');

  const stopped = { ...env, DOCKER_HOST: `unix://${node.directory}/nothing` };
  const refused = await attempt(process.execPath, args, { env: stopped });
  t.is(refused.exitCode, 1);
  t.regex(refused.stderr, /cannot be loaded into docker \(.*Cannot connect to the Docker daemon/);
});
