/** The reference of the start-up bench: a grpc-js server of a few lines that answers Probe, and nothing else. */
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { serviceDefinition } from '../src/csi/codec.ts';

const server = new Server();
server.addService(serviceDefinition('csi.v1.Identity'), {
  Probe: (_call: unknown, answer: (error: null, response: object) => void) => {
    answer(null, { ready: { value: true } });
  },
});
server.bindAsync(process.argv[2] ?? '', ServerCredentials.createInsecure(), () => undefined);
