/** `loopcsi node`: the nodes of a controller. The same commands, through kubectl, are in cluster/controlled-nodes.ts. */
import type { Command } from 'commander';
import { controllerTable } from '../config/controller.ts';
import type { ControlledNode } from '../csi/admin-types.ts';
import type { Client } from '../csi/client.ts';
import { connect } from './driver.ts';
import { FailedError, failureOf } from './errors.ts';
import { addListOptions, type ListOptions, showList } from './list.ts';
import {
  forgetExplanation,
  forgottenText,
  type NodeRow,
  nodeColumns,
  nodeRowOf,
  rememberedText,
} from './node-format.ts';
import { count } from './output.ts';
import { printable } from './printable.ts';
import type { Session } from './session.ts';

export function addNodeCommands(program: Command, session: Session): void {
  const node = program
    .command('node')
    .description("the nodes of 'loopcsi controller', and what to do if one never comes back");
  addNodeSubcommands(node, {
    argument: '<node-id>',
    list: (options) => listNodes(session, options),
    forget: (name, options) => forgetNode(session, name, options),
    remember: (name) => rememberNode(session, name),
  });
}

export interface ForgetOptions {
  readonly yes?: boolean;
  readonly force?: boolean;
  readonly address?: readonly string[];
}

/** Adds the commands, which `kubectl loopcsi node` has, too. */
export function addNodeSubcommands(
  node: Command,
  actions: {
    /** Placeholder of the node's name, by which it is completed. */
    readonly argument: string;
    readonly list: (options: ListOptions) => Promise<void>;
    readonly forget: (name: string, options: ForgetOptions) => Promise<void>;
    readonly remember: (name: string) => Promise<void>;
  },
): void {
  const list = node
    .command('list')
    .alias('ls')
    .description('list the nodes with the state of their driver')
    .action(actions.list);
  addListOptions(list, nodeColumns);
  node
    .command('forget')
    .description(
      'declare that a node never comes back: its volumes and snapshots count as lost and can be deleted',
    )
    .argument(actions.argument)
    .option('-y, --yes', 'do not ask for confirmation')
    .option('--force', 'also forget a node whose driver can be reached')
    .option(
      '--address <host:port>',
      'address of its driver, if the controller lists that without the name of a node; can be repeated',
      (address, others: readonly string[] | undefined) => [...(others ?? []), address],
    )
    .action(actions.forget);
  node
    .command('remember')
    .description('use a forgotten node again, with the data that it has')
    .argument(actions.argument)
    .action(actions.remember);
}

/** Runs a call of the controller. Throws `FailedError` if the socket is that of a driver. */
async function ask<T>(
  session: Session,
  call: (nodes: Client<'loopcsi.v1.Nodes'>) => Promise<T>,
): Promise<T> {
  const path = session.endpointOr(controllerTable.endpoint.default);
  const { nodes, close } = await connect(path);
  try {
    return await call(nodes);
  } catch (error) {
    if (failureOf(error).code !== 'UNIMPLEMENTED') throw error;
    throw new FailedError(
      `the process at ${path} is no controller, or an older one; give --endpoint of 'loopcsi controller'`,
      { cause: error },
    );
  } finally {
    close();
  }
}

async function loadNodes(session: Session): Promise<readonly ControlledNode[]> {
  return ask(session, async (nodes) => (await nodes.ListNodes({})).nodes);
}

async function listNodes(session: Session, options: ListOptions): Promise<void> {
  const listing = {
    load: async (): Promise<readonly NodeRow[]> => (await loadNodes(session)).map(nodeRowOf),
    columns: nodeColumns,
    asJson: (row: NodeRow) => row,
    whenEmpty: 'the controller knows no node',
  };
  await showList(session, listing, options);
}

async function forgetNode(
  session: Session,
  name: string,
  { yes, force, address: addresses = [] }: ForgetOptions,
): Promise<void> {
  const rows = (await loadNodes(session)).map(nodeRowOf);
  const explanation = forgetExplanation(
    name,
    rows.find((row) => row.name === name),
  );
  const { terminal } = session;
  if (yes !== true && !(await terminal.confirm(`Forget node '${printable(name)}'?`, explanation))) {
    throw new FailedError('nothing was forgotten');
  }
  const answer = await ask(session, (nodes) =>
    nodes.ForgetNode({ name, force: force === true, addresses }),
  );
  const { tag, was_forgotten: wasForgotten, was_known: wasKnown } = answer;
  await session.show({ name, tag, wasForgotten, wasKnown }, () =>
    forgottenText({ name, wasForgotten, wasKnown, tag }),
  );
}

async function rememberNode(session: Session, name: string): Promise<void> {
  const { tag, was_forgotten: wasForgotten } = await ask(session, (nodes) =>
    nodes.RememberNode({ name }),
  );
  await session.show({ name, tag, wasForgotten }, () => rememberedText({ name, wasForgotten }));
}

/** For completion. */
export async function nodeNames(
  session: Session,
): Promise<readonly { readonly value: string; readonly description: string }[]> {
  // Without a tag, the name is an address, which is none of a node.
  const nodes = (await loadNodes(session)).filter(({ tag }) => tag !== '');
  return nodes.map(({ name, state, volume_count }) => ({
    value: name,
    description:
      volume_count === null ? state : `${state}, ${count(Number(volume_count.value), 'volume')}`,
  }));
}
