import { methodsOf } from '../../csi/codec.ts';
import { VolumeError } from '../../errors.ts';
import type { ServerHooks } from '../../rpc/call.ts';
import { makeService, type Service } from '../../rpc/grpc-server.ts';
import { type Implementation, makeHandlers } from '../../rpc/handlers.ts';

const name = 'loopcsi.v1.Admin';

/** The Admin service of a driver is never on the network, so the controller cannot pass its calls on, and says where to make them. */
export function adminService(hooks: ServerHooks): Service {
  const rpcs = methodsOf(name).map((method) => method.name);
  const refuse = (): never => {
    throw new VolumeError(
      'unsupported',
      'a controller answers at this socket, and this command needs the driver of one node: run it on that machine, with the socket of its driver',
    );
  };
  const methods: Implementation<typeof name> = Object.fromEntries(rpcs.map((rpc) => [rpc, refuse]));
  const calls = new Map(rpcs.map((rpc) => [rpc, { logClass: 'read', offered: true } as const]));
  return makeService(name, makeHandlers(name, methods, hooks, { calls, checksSizeLimits: false }));
}
