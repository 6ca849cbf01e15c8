// Generated from csi-proto/agent.proto by scripts/generate-csi.ts. Do not edit: change the proto, then `npm run generate`.

/** loopcsi.agent.v1 as a protobufjs INamespace. The type is object, because INamespace lacks the keys of map fields. */
export const descriptor: object = {
  nested: {
    loopcsi: {
      nested: {
        agent: {
          nested: {
            v1: {
              nested: {
                Agent: { methods: { Hello: { requestType: 'HelloRequest', responseType: 'HelloResponse' } } },
                HelloRequest: {
                  fields: { api_version: { type: 'int32', id: 1 }, controller_version: { type: 'string', id: 2 } },
                },
                HelloResponse: {
                  fields: {
                    api_version: { type: 'int32', id: 1 },
                    version: { type: 'string', id: 2 },
                    driver_name: { type: 'string', id: 3 },
                    node_id: { type: 'string', id: 4 },
                    node_tag: { type: 'string', id: 5 },
                    segments: { keyType: 'string', type: 'string', id: 6 },
                    pools: { rule: 'repeated', type: 'Pool', id: 7 },
                    foreign_ids: { rule: 'repeated', type: 'string', id: 8 },
                    volume_count: { type: 'google.protobuf.Int64Value', id: 9 },
                  },
                },
                Pool: { fields: { name: { type: 'string', id: 1 }, uuid: { type: 'string', id: 2 } } },
              },
            },
          },
        },
      },
    },
    google: { nested: { protobuf: { nested: { Int64Value: { fields: { value: { type: 'int64', id: 1 } } } } } } },
  },
};
