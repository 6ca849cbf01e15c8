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
                csi_secret: { type: 'bool', id: 1059, extend: 'google.protobuf.FieldOptions' },
                Agent: {
                  methods: {
                    Hello: { requestType: 'HelloRequest', responseType: 'HelloResponse' },
                    OpenSource: { requestType: 'OpenSourceRequest', responseType: 'OpenSourceResponse' },
                    OfferSource: { requestType: 'OfferSourceRequest', responseType: 'OfferSourceResponse' },
                    CloseSource: { requestType: 'CloseSourceRequest', responseType: 'CloseSourceResponse' },
                    TakeGroupPart: {
                      requestType: 'TakeGroupPartRequest',
                      responseType: 'TakeGroupPartResponse',
                      responseStream: true,
                    },
                    AdvanceGroupPart: { requestType: 'AdvanceGroupPartRequest', responseType: 'AdvanceGroupPartResponse' },
                    FindGroup: { requestType: 'FindGroupRequest', responseType: 'FindGroupResponse' },
                    SettleGroupPart: { requestType: 'SettleGroupPartRequest', responseType: 'SettleGroupPartResponse' },
                    RemoveGroupPart: { requestType: 'RemoveGroupPartRequest', responseType: 'RemoveGroupPartResponse' },
                  },
                },
                Sources: {
                  methods: { Describe: { requestType: 'DescribeRequest', responseType: 'DescribeResponse' } },
                },
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
                    peer_addresses: { rule: 'repeated', type: 'string', id: 10 },
                    undecided_groups: { rule: 'repeated', type: 'UndecidedGroup', id: 11 },
                  },
                },
                UndecidedGroup: { fields: { group_id: { type: 'string', id: 1 }, attempt: { type: 'string', id: 2 } } },
                Pool: { fields: { name: { type: 'string', id: 1 }, uuid: { type: 'string', id: 2 } } },
                Source: {
                  fields: {
                    kind: { type: 'string', id: 1 },
                    id: { type: 'string', id: 2 },
                    copy_name: { type: 'string', id: 3 },
                  },
                },
                OpenSourceRequest: {
                  fields: {
                    source: { type: 'Source', id: 1 },
                    peer_addresses: { rule: 'repeated', type: 'string', id: 2 },
                  },
                },
                OpenSourceResponse: { fields: { ticket: { type: 'string', id: 1, options: { '(csi_secret)': true } } } },
                OfferSourceRequest: {
                  fields: {
                    source: { type: 'Source', id: 1 },
                    node_id: { type: 'string', id: 2 },
                    address: { type: 'string', id: 3 },
                    ticket: { type: 'string', id: 4, options: { '(csi_secret)': true } },
                  },
                },
                OfferSourceResponse: { fields: {} },
                CloseSourceRequest: { fields: { source: { type: 'Source', id: 1 } } },
                CloseSourceResponse: { fields: {} },
                TakeGroupPartRequest: {
                  fields: {
                    group_id: { type: 'string', id: 1 },
                    attempt: { type: 'string', id: 2 },
                    name: { type: 'string', id: 3 },
                    source_volume_ids: { rule: 'repeated', type: 'string', id: 4 },
                    parameters: { keyType: 'string', type: 'string', id: 5 },
                    group_volume_ids: { rule: 'repeated', type: 'string', id: 6 },
                  },
                },
                TakeGroupPartResponse: {
                  fields: {
                    exists: { type: 'bool', id: 1 },
                    attempt: { type: 'string', id: 2 },
                    snapshot_ids: { rule: 'repeated', type: 'string', id: 3 },
                    live_volume_ids: { rule: 'repeated', type: 'string', id: 4 },
                  },
                },
                AdvanceGroupPartRequest: {
                  fields: {
                    attempt: { type: 'string', id: 1 },
                    step: { type: 'string', id: 2 },
                    created_at_ms: { type: 'int64', id: 3 },
                    frozen_ms: { type: 'int64', id: 4 },
                    elsewhere: { rule: 'repeated', type: 'GroupMember', id: 5 },
                  },
                },
                AdvanceGroupPartResponse: {
                  fields: {
                    frozen_ms: { type: 'int64', id: 1 },
                    members: { rule: 'repeated', type: 'GroupMember', id: 2 },
                  },
                },
                GroupMember: {
                  fields: {
                    snapshot_id: { type: 'string', id: 1 },
                    source_volume_id: { type: 'string', id: 2 },
                    size_bytes: { type: 'int64', id: 3 },
                    node_id: { type: 'string', id: 4 },
                  },
                },
                FindGroupRequest: { fields: { group_id: { type: 'string', id: 1 } } },
                FindGroupResponse: { fields: { state: { type: 'string', id: 1 }, attempt: { type: 'string', id: 2 } } },
                SettleGroupPartRequest: {
                  fields: {
                    group_id: { type: 'string', id: 1 },
                    attempt: { type: 'string', id: 2 },
                    snapshot_ids: { rule: 'repeated', type: 'string', id: 3 },
                  },
                },
                SettleGroupPartResponse: { fields: {} },
                RemoveGroupPartRequest: {
                  fields: {
                    group_id: { type: 'string', id: 1 },
                    attempt: { type: 'string', id: 2 },
                    snapshot_ids: { rule: 'repeated', type: 'string', id: 3 },
                  },
                },
                RemoveGroupPartResponse: { fields: {} },
                DescribeRequest: {
                  fields: {
                    ticket: { type: 'string', id: 1, options: { '(csi_secret)': true } },
                    source: { type: 'Source', id: 2 },
                    state: { type: 'string', id: 3 },
                  },
                },
                DescribeResponse: {
                  fields: {
                    state: { type: 'string', id: 1 },
                    kind: { type: 'string', id: 2 },
                    fs_type: { type: 'string', id: 3 },
                    sector_size: { type: 'int32', id: 4 },
                    provisioning: { type: 'string', id: 5 },
                    size_bytes: { type: 'int64', id: 6 },
                    allocated_bytes: { type: 'int64', id: 7 },
                    growth_limit: { type: 'GrowthLimit', id: 8 },
                  },
                },
                GrowthLimit: { fields: { max_bytes: { type: 'int64', id: 1 }, factor: { type: 'int32', id: 2 } } },
              },
            },
          },
        },
      },
    },
    google: {
      nested: {
        protobuf: {
          nested: {
            FieldOptions: { fields: {}, extensions: [[1000, 536870911]] },
            Int64Value: { fields: { value: { type: 'int64', id: 1 } } },
          },
        },
      },
    },
  },
};
