/** The baseline for start-up and protocol costs: a grpc-js server that implements only Probe. */
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { serviceDefinition } from '../src/csi/codec.ts';

const server = new Server();
server.addService(serviceDefinition('csi.v1.Identity'), {
  Probe: (_call: unknown, callback: (error: null, response: object) => void) => {
    callback(null, { ready: { value: true } });
  },
});
server.bindAsync(process.argv[2] ?? '', ServerCredentials.createInsecure(), () => undefined);
