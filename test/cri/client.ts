/** A client of the kubelet's interface to container runtimes, made from its published protobuf description. */
import { join } from 'node:path';
import { Client, credentials } from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import { goModule } from '../helpers/go-module.ts';

const release = 'v0.37.2';
const service = 'runtime.v1.RuntimeService';

type Json = Readonly<Record<string, unknown>>;

export interface CriClient {
  /** Makes a call of RuntimeService. Messages are plain objects with the field names of the description; bytes are buffers. */
  call(method: string, request: Json): Promise<Json>;
  close(): void;
}

export async function criClient(socket: string): Promise<CriClient> {
  const directory = await goModule('k8s.io/cri-api', release);
  const description = new protobuf.Root();
  const file = join(directory, 'pkg/apis/runtime/v1/api.proto');
  await description.load(file, { keepCase: true });
  const { methods } = description.lookupService(service);
  const client = new Client(`unix://${socket}`, credentials.createInsecure());
  return {
    call: async (method, request) => {
      const found = methods[method];
      if (found === undefined) throw new Error(`cri-api ${release} has no ${method}`);
      const requestType = description.lookupType(`runtime.v1.${found.requestType}`);
      const answered = description.lookupType(`runtime.v1.${found.responseType}`);
      const wrong = requestType.verify(request);
      if (wrong !== null) throw new Error(`${method}: ${wrong}`);
      return new Promise<Json>((resolve, reject) => {
        client.makeUnaryRequest(
          `/${service}/${method}`,
          (message: Json) =>
            Buffer.from(requestType.encode(requestType.fromObject(message)).finish()),
          (bytes) => answered.toObject(answered.decode(bytes), { defaults: true, bytes: Buffer }),
          request,
          { deadline: Date.now() + 60_000 },
          (error, answer) => {
            if (error !== null) reject(new Error(`${method}: ${error.message}`));
            else resolve(answer ?? {});
          },
        );
      });
    },
    close: () => {
      client.close();
    },
  };
}
