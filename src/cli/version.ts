import type { Command } from 'commander';
import { NoDriverError } from './driver.ts';
import type { Session } from './session.ts';

export function addVersionCommand(program: Command, session: Session): void {
  program
    .command('version')
    .description('show the versions of this program and of the running driver')
    .action(showVersion.bind(null, session));
}

async function showVersion(session: Session): Promise<void> {
  const driver = await driverVersion(session);
  await session.show({ version: session.version, node: process.versions.node, driver }, () =>
    [
      `loopcsi ${session.version} (Node ${process.versions.node})`,
      driver === null
        ? 'no driver is running'
        : `driver  ${driver.version}, serving as ${driver.name} on ${driver.endpoint}`,
    ].join('\n'),
  );
}

async function driverVersion(session: Session) {
  try {
    const { identity } = await session.driver();
    const { name, vendor_version: version } = await identity.GetPluginInfo({});
    return { name, version, endpoint: session.endpoint };
  } catch (error) {
    if (error instanceof NoDriverError) return null;
    throw error;
  }
}
