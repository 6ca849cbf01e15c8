// Generated from csi-proto/csi.proto by scripts/generate-csi.ts. Do not edit: change the proto, then `npm run generate`.

/** csi.v1 as a protobufjs INamespace. The type is object, because INamespace lacks the keys of map fields. */
export const descriptor: object = {
  nested: {
    csi: {
      nested: {
        v1: {
          nested: {
            alpha_enum: { type: 'bool', id: 1060, extend: 'google.protobuf.EnumOptions' },
            alpha_enum_value: { type: 'bool', id: 1060, extend: 'google.protobuf.EnumValueOptions' },
            csi_secret: { type: 'bool', id: 1059, extend: 'google.protobuf.FieldOptions' },
            alpha_field: { type: 'bool', id: 1060, extend: 'google.protobuf.FieldOptions' },
            alpha_message: { type: 'bool', id: 1060, extend: 'google.protobuf.MessageOptions' },
            alpha_method: { type: 'bool', id: 1060, extend: 'google.protobuf.MethodOptions' },
            alpha_service: { type: 'bool', id: 1060, extend: 'google.protobuf.ServiceOptions' },
            Identity: {
              methods: {
                GetPluginInfo: { requestType: 'GetPluginInfoRequest', responseType: 'GetPluginInfoResponse' },
                GetPluginCapabilities: { requestType: 'GetPluginCapabilitiesRequest', responseType: 'GetPluginCapabilitiesResponse' },
                Probe: { requestType: 'ProbeRequest', responseType: 'ProbeResponse' },
              },
            },
            Controller: {
              methods: {
                CreateVolume: { requestType: 'CreateVolumeRequest', responseType: 'CreateVolumeResponse' },
                DeleteVolume: { requestType: 'DeleteVolumeRequest', responseType: 'DeleteVolumeResponse' },
                ControllerPublishVolume: {
                  requestType: 'ControllerPublishVolumeRequest',
                  responseType: 'ControllerPublishVolumeResponse',
                },
                ControllerUnpublishVolume: {
                  requestType: 'ControllerUnpublishVolumeRequest',
                  responseType: 'ControllerUnpublishVolumeResponse',
                },
                ValidateVolumeCapabilities: {
                  requestType: 'ValidateVolumeCapabilitiesRequest',
                  responseType: 'ValidateVolumeCapabilitiesResponse',
                },
                ListVolumes: { requestType: 'ListVolumesRequest', responseType: 'ListVolumesResponse' },
                ControllerListVolumeHealth: {
                  requestType: 'ControllerListVolumeHealthRequest',
                  responseType: 'ControllerListVolumeHealthResponse',
                  options: { '(alpha_method)': true },
                },
                ControllerGetVolumeHealth: {
                  requestType: 'ControllerGetVolumeHealthRequest',
                  responseType: 'ControllerGetVolumeHealthResponse',
                  options: { '(alpha_method)': true },
                },
                GetCapacity: { requestType: 'GetCapacityRequest', responseType: 'GetCapacityResponse' },
                ControllerGetCapabilities: {
                  requestType: 'ControllerGetCapabilitiesRequest',
                  responseType: 'ControllerGetCapabilitiesResponse',
                },
                CreateSnapshot: { requestType: 'CreateSnapshotRequest', responseType: 'CreateSnapshotResponse' },
                DeleteSnapshot: { requestType: 'DeleteSnapshotRequest', responseType: 'DeleteSnapshotResponse' },
                ListSnapshots: { requestType: 'ListSnapshotsRequest', responseType: 'ListSnapshotsResponse' },
                GetSnapshot: {
                  requestType: 'GetSnapshotRequest',
                  responseType: 'GetSnapshotResponse',
                  options: { '(alpha_method)': true },
                },
                ControllerExpandVolume: {
                  requestType: 'ControllerExpandVolumeRequest',
                  responseType: 'ControllerExpandVolumeResponse',
                },
                ControllerGetVolume: {
                  requestType: 'ControllerGetVolumeRequest',
                  responseType: 'ControllerGetVolumeResponse',
                  options: { '(alpha_method)': true },
                },
                ControllerModifyVolume: {
                  requestType: 'ControllerModifyVolumeRequest',
                  responseType: 'ControllerModifyVolumeResponse',
                },
              },
            },
            GroupController: {
              methods: {
                GroupControllerGetCapabilities: {
                  requestType: 'GroupControllerGetCapabilitiesRequest',
                  responseType: 'GroupControllerGetCapabilitiesResponse',
                },
                CreateVolumeGroupSnapshot: {
                  requestType: 'CreateVolumeGroupSnapshotRequest',
                  responseType: 'CreateVolumeGroupSnapshotResponse',
                },
                DeleteVolumeGroupSnapshot: {
                  requestType: 'DeleteVolumeGroupSnapshotRequest',
                  responseType: 'DeleteVolumeGroupSnapshotResponse',
                },
                GetVolumeGroupSnapshot: {
                  requestType: 'GetVolumeGroupSnapshotRequest',
                  responseType: 'GetVolumeGroupSnapshotResponse',
                },
              },
            },
            SnapshotMetadata: {
              options: { '(alpha_service)': true },
              methods: {
                GetMetadataAllocated: {
                  requestType: 'GetMetadataAllocatedRequest',
                  responseType: 'GetMetadataAllocatedResponse',
                  responseStream: true,
                },
                GetMetadataDelta: {
                  requestType: 'GetMetadataDeltaRequest',
                  responseType: 'GetMetadataDeltaResponse',
                  responseStream: true,
                },
              },
            },
            Node: {
              methods: {
                NodeStageVolume: { requestType: 'NodeStageVolumeRequest', responseType: 'NodeStageVolumeResponse' },
                NodeUnstageVolume: { requestType: 'NodeUnstageVolumeRequest', responseType: 'NodeUnstageVolumeResponse' },
                NodePublishVolume: { requestType: 'NodePublishVolumeRequest', responseType: 'NodePublishVolumeResponse' },
                NodeUnpublishVolume: { requestType: 'NodeUnpublishVolumeRequest', responseType: 'NodeUnpublishVolumeResponse' },
                NodeGetVolumeStats: { requestType: 'NodeGetVolumeStatsRequest', responseType: 'NodeGetVolumeStatsResponse' },
                NodeGetVolumeHealth: {
                  requestType: 'NodeGetVolumeHealthRequest',
                  responseType: 'NodeGetVolumeHealthResponse',
                  options: { '(alpha_method)': true },
                },
                NodeGetStorageHealth: {
                  requestType: 'NodeGetStorageHealthRequest',
                  responseType: 'NodeGetStorageHealthResponse',
                  options: { '(alpha_method)': true },
                },
                NodeExpandVolume: { requestType: 'NodeExpandVolumeRequest', responseType: 'NodeExpandVolumeResponse' },
                NodeGetCapabilities: { requestType: 'NodeGetCapabilitiesRequest', responseType: 'NodeGetCapabilitiesResponse' },
                NodeGetInfo: { requestType: 'NodeGetInfoRequest', responseType: 'NodeGetInfoResponse' },
              },
            },
            GetPluginInfoRequest: { fields: {} },
            GetPluginInfoResponse: {
              fields: {
                name: { type: 'string', id: 1 },
                vendor_version: { type: 'string', id: 2 },
                manifest: { keyType: 'string', type: 'string', id: 3 },
              },
            },
            GetPluginCapabilitiesRequest: { fields: {} },
            GetPluginCapabilitiesResponse: { fields: { capabilities: { rule: 'repeated', type: 'PluginCapability', id: 1 } } },
            PluginCapability: {
              oneofs: { type: { oneof: ['service', 'volume_expansion'] } },
              fields: { service: { type: 'Service', id: 1 }, volume_expansion: { type: 'VolumeExpansion', id: 2 } },
              nested: {
                Service: {
                  fields: { type: { type: 'Type', id: 1 } },
                  nested: {
                    Type: {
                      valuesOptions: {
                        SNAPSHOT_METADATA_SERVICE: { '(alpha_enum_value)': true },
                        SNAPSHOT_ACCESSIBILITY_CONSTRAINTS: { '(alpha_enum_value)': true },
                      },
                      values: {
                        UNKNOWN: 0,
                        CONTROLLER_SERVICE: 1,
                        VOLUME_ACCESSIBILITY_CONSTRAINTS: 2,
                        GROUP_CONTROLLER_SERVICE: 3,
                        SNAPSHOT_METADATA_SERVICE: 4,
                        SNAPSHOT_ACCESSIBILITY_CONSTRAINTS: 5,
                      },
                    },
                  },
                },
                VolumeExpansion: {
                  fields: { type: { type: 'Type', id: 1 } },
                  nested: { Type: { values: { UNKNOWN: 0, ONLINE: 1, OFFLINE: 2 } } },
                },
              },
            },
            ProbeRequest: { fields: {} },
            ProbeResponse: { fields: { ready: { type: '.google.protobuf.BoolValue', id: 1 } } },
            CreateVolumeRequest: {
              fields: {
                name: { type: 'string', id: 1 },
                capacity_range: { type: 'CapacityRange', id: 2 },
                volume_capabilities: { rule: 'repeated', type: 'VolumeCapability', id: 3 },
                parameters: { keyType: 'string', type: 'string', id: 4 },
                secrets: { keyType: 'string', type: 'string', id: 5, options: { '(csi_secret)': true } },
                volume_content_source: { type: 'VolumeContentSource', id: 6 },
                accessibility_requirements: { type: 'TopologyRequirement', id: 7 },
                mutable_parameters: { keyType: 'string', type: 'string', id: 8 },
              },
            },
            VolumeContentSource: {
              oneofs: { type: { oneof: ['snapshot', 'volume'] } },
              fields: { snapshot: { type: 'SnapshotSource', id: 1 }, volume: { type: 'VolumeSource', id: 2 } },
              nested: {
                SnapshotSource: { fields: { snapshot_id: { type: 'string', id: 1 } } },
                VolumeSource: { fields: { volume_id: { type: 'string', id: 1 } } },
              },
            },
            CreateVolumeResponse: { fields: { volume: { type: 'Volume', id: 1 } } },
            VolumeCapability: {
              oneofs: { access_type: { oneof: ['block', 'mount'] } },
              fields: {
                block: { type: 'BlockVolume', id: 1 },
                mount: { type: 'MountVolume', id: 2 },
                access_mode: { type: 'AccessMode', id: 3 },
              },
              nested: {
                BlockVolume: { fields: {} },
                MountVolume: {
                  fields: {
                    fs_type: { type: 'string', id: 1 },
                    mount_flags: { rule: 'repeated', type: 'string', id: 2 },
                    volume_mount_group: { type: 'string', id: 3 },
                  },
                },
                AccessMode: {
                  fields: { mode: { type: 'Mode', id: 1 } },
                  nested: {
                    Mode: {
                      valuesOptions: {
                        SINGLE_NODE_SINGLE_WRITER: { '(alpha_enum_value)': true },
                        SINGLE_NODE_MULTI_WRITER: { '(alpha_enum_value)': true },
                      },
                      values: {
                        UNKNOWN: 0,
                        SINGLE_NODE_WRITER: 1,
                        SINGLE_NODE_READER_ONLY: 2,
                        MULTI_NODE_READER_ONLY: 3,
                        MULTI_NODE_SINGLE_WRITER: 4,
                        MULTI_NODE_MULTI_WRITER: 5,
                        SINGLE_NODE_SINGLE_WRITER: 6,
                        SINGLE_NODE_MULTI_WRITER: 7,
                      },
                    },
                  },
                },
              },
            },
            CapacityRange: { fields: { required_bytes: { type: 'int64', id: 1 }, limit_bytes: { type: 'int64', id: 2 } } },
            Volume: {
              fields: {
                capacity_bytes: { type: 'int64', id: 1 },
                volume_id: { type: 'string', id: 2 },
                volume_context: { keyType: 'string', type: 'string', id: 3 },
                content_source: { type: 'VolumeContentSource', id: 4 },
                accessible_topology: { rule: 'repeated', type: 'Topology', id: 5 },
              },
            },
            TopologyRequirement: {
              fields: {
                requisite: { rule: 'repeated', type: 'Topology', id: 1 },
                preferred: { rule: 'repeated', type: 'Topology', id: 2 },
              },
            },
            Topology: { fields: { segments: { keyType: 'string', type: 'string', id: 1 } } },
            DeleteVolumeRequest: {
              fields: {
                volume_id: { type: 'string', id: 1 },
                secrets: { keyType: 'string', type: 'string', id: 2, options: { '(csi_secret)': true } },
              },
            },
            DeleteVolumeResponse: { fields: {} },
            ControllerPublishVolumeRequest: {
              fields: {
                volume_id: { type: 'string', id: 1 },
                node_id: { type: 'string', id: 2 },
                volume_capability: { type: 'VolumeCapability', id: 3 },
                readonly: { type: 'bool', id: 4 },
                secrets: { keyType: 'string', type: 'string', id: 5, options: { '(csi_secret)': true } },
                volume_context: { keyType: 'string', type: 'string', id: 6 },
              },
            },
            ControllerPublishVolumeResponse: { fields: { publish_context: { keyType: 'string', type: 'string', id: 1 } } },
            ControllerUnpublishVolumeRequest: {
              fields: {
                volume_id: { type: 'string', id: 1 },
                node_id: { type: 'string', id: 2 },
                secrets: { keyType: 'string', type: 'string', id: 3, options: { '(csi_secret)': true } },
              },
            },
            ControllerUnpublishVolumeResponse: { fields: {} },
            ValidateVolumeCapabilitiesRequest: {
              fields: {
                volume_id: { type: 'string', id: 1 },
                volume_context: { keyType: 'string', type: 'string', id: 2 },
                volume_capabilities: { rule: 'repeated', type: 'VolumeCapability', id: 3 },
                parameters: { keyType: 'string', type: 'string', id: 4 },
                secrets: { keyType: 'string', type: 'string', id: 5, options: { '(csi_secret)': true } },
                mutable_parameters: { keyType: 'string', type: 'string', id: 6 },
              },
            },
            ValidateVolumeCapabilitiesResponse: {
              fields: { confirmed: { type: 'Confirmed', id: 1 }, message: { type: 'string', id: 2 } },
              nested: {
                Confirmed: {
                  fields: {
                    volume_context: { keyType: 'string', type: 'string', id: 1 },
                    volume_capabilities: { rule: 'repeated', type: 'VolumeCapability', id: 2 },
                    parameters: { keyType: 'string', type: 'string', id: 3 },
                    mutable_parameters: { keyType: 'string', type: 'string', id: 4 },
                  },
                },
              },
            },
            ListVolumesRequest: { fields: { max_entries: { type: 'int32', id: 1 }, starting_token: { type: 'string', id: 2 } } },
            ListVolumesResponse: {
              fields: { entries: { rule: 'repeated', type: 'Entry', id: 1 }, next_token: { type: 'string', id: 2 } },
              nested: {
                VolumeStatus: {
                  fields: { published_node_ids: { rule: 'repeated', type: 'string', id: 1 } },
                  reserved: [[2, 2]],
                },
                Entry: { fields: { volume: { type: 'Volume', id: 1 }, status: { type: 'VolumeStatus', id: 2 } } },
              },
            },
            ControllerListVolumeHealthRequest: {
              options: { '(alpha_message)': true },
              fields: {
                max_entries: { type: 'int32', id: 1 },
                starting_token: { type: 'string', id: 2 },
                secrets: { keyType: 'string', type: 'string', id: 3, options: { '(csi_secret)': true } },
              },
            },
            ControllerListVolumeHealthResponse: {
              options: { '(alpha_message)': true },
              fields: {
                entries: { rule: 'repeated', type: 'VolumeHealth', id: 1 },
                next_token: { type: 'string', id: 2 },
              },
            },
            VolumeHealthErrorType: { values: { UNKNOWN_VOLUME_HEALTH_TYPE: 0, DEGRADED: 1, INACCESSIBLE: 2, DATA_LOSS: 3 } },
            VolumeHealth: {
              options: { '(alpha_message)': true },
              fields: {
                volume_id: { type: 'string', id: 1 },
                health_statuses: { rule: 'repeated', type: 'VolumeHealthEntry', id: 2 },
              },
              nested: {
                VolumeHealthEntry: {
                  fields: {
                    status: { type: 'VolumeHealthErrorType', id: 1 },
                    reason: { type: 'string', id: 2 },
                    message: { type: 'string', id: 3 },
                  },
                },
              },
            },
            ControllerGetVolumeHealthRequest: {
              options: { '(alpha_message)': true },
              fields: {
                volume_id: { type: 'string', id: 1 },
                secrets: { keyType: 'string', type: 'string', id: 2, options: { '(csi_secret)': true } },
              },
            },
            ControllerGetVolumeHealthResponse: {
              options: { '(alpha_message)': true },
              fields: { volume_health: { type: 'VolumeHealth', id: 1 } },
            },
            ControllerGetVolumeRequest: { options: { '(alpha_message)': true }, fields: { volume_id: { type: 'string', id: 1 } } },
            ControllerGetVolumeResponse: {
              options: { '(alpha_message)': true },
              fields: { volume: { type: 'Volume', id: 1 }, status: { type: 'VolumeStatus', id: 2 } },
              nested: {
                VolumeStatus: {
                  fields: { published_node_ids: { rule: 'repeated', type: 'string', id: 1 } },
                  reserved: [[2, 2]],
                },
              },
            },
            ControllerModifyVolumeRequest: {
              fields: {
                volume_id: { type: 'string', id: 1 },
                secrets: { keyType: 'string', type: 'string', id: 2, options: { '(csi_secret)': true } },
                mutable_parameters: { keyType: 'string', type: 'string', id: 3 },
              },
            },
            ControllerModifyVolumeResponse: { fields: {} },
            GetCapacityRequest: {
              fields: {
                volume_capabilities: { rule: 'repeated', type: 'VolumeCapability', id: 1 },
                parameters: { keyType: 'string', type: 'string', id: 2 },
                accessible_topology: { type: 'Topology', id: 3 },
              },
            },
            GetCapacityResponse: {
              fields: {
                available_capacity: { type: 'int64', id: 1 },
                maximum_volume_size: { type: 'google.protobuf.Int64Value', id: 2 },
                minimum_volume_size: { type: 'google.protobuf.Int64Value', id: 3, options: { '(alpha_field)': true } },
              },
            },
            ControllerGetCapabilitiesRequest: { fields: {} },
            ControllerGetCapabilitiesResponse: { fields: { capabilities: { rule: 'repeated', type: 'ControllerServiceCapability', id: 1 } } },
            ControllerServiceCapability: {
              oneofs: { type: { oneof: ['rpc'] } },
              fields: { rpc: { type: 'RPC', id: 1 } },
              nested: {
                RPC: {
                  fields: { type: { type: 'Type', id: 1 } },
                  nested: {
                    Type: {
                      valuesOptions: {
                        GET_VOLUME: { '(alpha_enum_value)': true },
                        SINGLE_NODE_MULTI_WRITER: { '(alpha_enum_value)': true },
                        GET_SNAPSHOT: { '(alpha_enum_value)': true },
                        GET_VOLUME_HEALTH: { '(alpha_enum_value)': true },
                        LIST_VOLUME_HEALTH: { '(alpha_enum_value)': true },
                      },
                      values: {
                        UNKNOWN: 0,
                        CREATE_DELETE_VOLUME: 1,
                        PUBLISH_UNPUBLISH_VOLUME: 2,
                        LIST_VOLUMES: 3,
                        GET_CAPACITY: 4,
                        CREATE_DELETE_SNAPSHOT: 5,
                        LIST_SNAPSHOTS: 6,
                        CLONE_VOLUME: 7,
                        PUBLISH_READONLY: 8,
                        EXPAND_VOLUME: 9,
                        LIST_VOLUMES_PUBLISHED_NODES: 10,
                        GET_VOLUME: 12,
                        SINGLE_NODE_MULTI_WRITER: 13,
                        MODIFY_VOLUME: 14,
                        GET_SNAPSHOT: 15,
                        GET_VOLUME_HEALTH: 16,
                        LIST_VOLUME_HEALTH: 17,
                      },
                      reserved: [[11, 11]],
                    },
                  },
                },
              },
            },
            CreateSnapshotRequest: {
              fields: {
                source_volume_id: { type: 'string', id: 1 },
                name: { type: 'string', id: 2 },
                secrets: { keyType: 'string', type: 'string', id: 3, options: { '(csi_secret)': true } },
                parameters: { keyType: 'string', type: 'string', id: 4 },
                accessibility_requirements: { type: 'TopologyRequirement', id: 5, options: { '(alpha_field)': true } },
              },
            },
            CreateSnapshotResponse: { fields: { snapshot: { type: 'Snapshot', id: 1 } } },
            Snapshot: {
              fields: {
                size_bytes: { type: 'int64', id: 1 },
                snapshot_id: { type: 'string', id: 2 },
                source_volume_id: { type: 'string', id: 3 },
                creation_time: { type: '.google.protobuf.Timestamp', id: 4 },
                ready_to_use: { type: 'bool', id: 5 },
                group_snapshot_id: { type: 'string', id: 6 },
                accessible_topology: { rule: 'repeated', type: 'Topology', id: 7, options: { '(alpha_field)': true } },
              },
            },
            DeleteSnapshotRequest: {
              fields: {
                snapshot_id: { type: 'string', id: 1 },
                secrets: { keyType: 'string', type: 'string', id: 2, options: { '(csi_secret)': true } },
              },
            },
            DeleteSnapshotResponse: { fields: {} },
            ListSnapshotsRequest: {
              fields: {
                max_entries: { type: 'int32', id: 1 },
                starting_token: { type: 'string', id: 2 },
                source_volume_id: { type: 'string', id: 3 },
                snapshot_id: { type: 'string', id: 4 },
                secrets: { keyType: 'string', type: 'string', id: 5, options: { '(csi_secret)': true } },
              },
            },
            ListSnapshotsResponse: {
              fields: { entries: { rule: 'repeated', type: 'Entry', id: 1 }, next_token: { type: 'string', id: 2 } },
              nested: { Entry: { fields: { snapshot: { type: 'Snapshot', id: 1 } } } },
            },
            GetSnapshotRequest: {
              options: { '(alpha_message)': true },
              fields: {
                snapshot_id: { type: 'string', id: 1 },
                secrets: { keyType: 'string', type: 'string', id: 2, options: { '(csi_secret)': true } },
              },
            },
            GetSnapshotResponse: { options: { '(alpha_message)': true }, fields: { snapshot: { type: 'Snapshot', id: 1 } } },
            ControllerExpandVolumeRequest: {
              fields: {
                volume_id: { type: 'string', id: 1 },
                capacity_range: { type: 'CapacityRange', id: 2 },
                secrets: { keyType: 'string', type: 'string', id: 3, options: { '(csi_secret)': true } },
                volume_capability: { type: 'VolumeCapability', id: 4 },
              },
            },
            ControllerExpandVolumeResponse: {
              fields: { capacity_bytes: { type: 'int64', id: 1 }, node_expansion_required: { type: 'bool', id: 2 } },
            },
            NodeStageVolumeRequest: {
              fields: {
                volume_id: { type: 'string', id: 1 },
                publish_context: { keyType: 'string', type: 'string', id: 2 },
                staging_target_path: { type: 'string', id: 3 },
                volume_capability: { type: 'VolumeCapability', id: 4 },
                secrets: { keyType: 'string', type: 'string', id: 5, options: { '(csi_secret)': true } },
                volume_context: { keyType: 'string', type: 'string', id: 6 },
              },
            },
            NodeStageVolumeResponse: { fields: {} },
            NodeUnstageVolumeRequest: {
              fields: { volume_id: { type: 'string', id: 1 }, staging_target_path: { type: 'string', id: 2 } },
            },
            NodeUnstageVolumeResponse: { fields: {} },
            NodePublishVolumeRequest: {
              fields: {
                volume_id: { type: 'string', id: 1 },
                publish_context: { keyType: 'string', type: 'string', id: 2 },
                staging_target_path: { type: 'string', id: 3 },
                target_path: { type: 'string', id: 4 },
                volume_capability: { type: 'VolumeCapability', id: 5 },
                readonly: { type: 'bool', id: 6 },
                secrets: { keyType: 'string', type: 'string', id: 7, options: { '(csi_secret)': true } },
                volume_context: { keyType: 'string', type: 'string', id: 8 },
              },
            },
            NodePublishVolumeResponse: { fields: {} },
            NodeUnpublishVolumeRequest: { fields: { volume_id: { type: 'string', id: 1 }, target_path: { type: 'string', id: 2 } } },
            NodeUnpublishVolumeResponse: { fields: {} },
            NodeGetVolumeStatsRequest: {
              fields: {
                volume_id: { type: 'string', id: 1 },
                volume_path: { type: 'string', id: 2 },
                staging_target_path: { type: 'string', id: 3 },
              },
            },
            NodeGetVolumeStatsResponse: { fields: { usage: { rule: 'repeated', type: 'VolumeUsage', id: 1 } }, reserved: [[2, 2]] },
            VolumeUsage: {
              fields: {
                available: { type: 'int64', id: 1 },
                total: { type: 'int64', id: 2 },
                used: { type: 'int64', id: 3 },
                unit: { type: 'Unit', id: 4 },
              },
              nested: { Unit: { values: { UNKNOWN: 0, BYTES: 1, INODES: 2 } } },
            },
            NodeGetVolumeHealthRequest: {
              options: { '(alpha_message)': true },
              fields: {
                volume_id: { type: 'string', id: 1 },
                volume_publish_path: { type: 'string', id: 2 },
                staging_target_path: { type: 'string', id: 3 },
              },
            },
            NodeGetVolumeHealthResponse: {
              options: { '(alpha_message)': true },
              fields: { volume_health: { type: 'VolumeHealth', id: 1 } },
            },
            NodeGetStorageHealthRequest: {
              options: { '(alpha_message)': true },
              fields: { secrets: { keyType: 'string', type: 'string', id: 1, options: { '(csi_secret)': true } } },
            },
            NodeGetStorageHealthResponse: {
              options: { '(alpha_message)': true },
              fields: { backend_health: { rule: 'repeated', type: 'StorageBackendHealth', id: 1 } },
              nested: {
                StorageBackendHealth: {
                  fields: {
                    status: { type: 'StorageHealthErrorType', id: 1 },
                    reason: { type: 'string', id: 2 },
                    message: { type: 'string', id: 3 },
                    volume_capability: { type: 'VolumeCapability', id: 4 },
                  },
                },
              },
            },
            StorageHealthErrorType: { values: { UNKNOWN_STORAGE_HEALTH_ERROR_TYPE: 0, STORAGE_DEGRADED: 1, STORAGE_UNREACHABLE: 2 } },
            NodeGetCapabilitiesRequest: { fields: {} },
            NodeGetCapabilitiesResponse: { fields: { capabilities: { rule: 'repeated', type: 'NodeServiceCapability', id: 1 } } },
            NodeServiceCapability: {
              oneofs: { type: { oneof: ['rpc'] } },
              fields: { rpc: { type: 'RPC', id: 1 } },
              nested: {
                RPC: {
                  fields: { type: { type: 'Type', id: 1 } },
                  nested: {
                    Type: {
                      valuesOptions: {
                        SINGLE_NODE_MULTI_WRITER: { '(alpha_enum_value)': true },
                        GET_VOLUME_HEALTH: { '(alpha_enum_value)': true },
                        GET_STORAGE_HEALTH: { '(alpha_enum_value)': true },
                      },
                      values: {
                        UNKNOWN: 0,
                        STAGE_UNSTAGE_VOLUME: 1,
                        GET_VOLUME_STATS: 2,
                        EXPAND_VOLUME: 3,
                        SINGLE_NODE_MULTI_WRITER: 5,
                        VOLUME_MOUNT_GROUP: 6,
                        GET_VOLUME_HEALTH: 7,
                        GET_STORAGE_HEALTH: 8,
                      },
                      reserved: [[4, 4]],
                    },
                  },
                },
              },
            },
            NodeGetInfoRequest: { fields: {} },
            NodeGetInfoResponse: {
              fields: {
                node_id: { type: 'string', id: 1 },
                max_volumes_per_node: { type: 'int64', id: 2 },
                accessible_topology: { type: 'Topology', id: 3 },
              },
            },
            NodeExpandVolumeRequest: {
              fields: {
                volume_id: { type: 'string', id: 1 },
                volume_path: { type: 'string', id: 2 },
                capacity_range: { type: 'CapacityRange', id: 3 },
                staging_target_path: { type: 'string', id: 4 },
                volume_capability: { type: 'VolumeCapability', id: 5 },
                secrets: {
                  keyType: 'string',
                  type: 'string',
                  id: 6,
                  options: { '(csi_secret)': true, '(alpha_field)': true },
                },
              },
            },
            NodeExpandVolumeResponse: { fields: { capacity_bytes: { type: 'int64', id: 1 } } },
            GroupControllerGetCapabilitiesRequest: { fields: {} },
            GroupControllerGetCapabilitiesResponse: {
              fields: { capabilities: { rule: 'repeated', type: 'GroupControllerServiceCapability', id: 1 } },
            },
            GroupControllerServiceCapability: {
              oneofs: { type: { oneof: ['rpc'] } },
              fields: { rpc: { type: 'RPC', id: 1 } },
              nested: {
                RPC: {
                  fields: { type: { type: 'Type', id: 1 } },
                  nested: { Type: { values: { UNKNOWN: 0, CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT: 1 } } },
                },
              },
            },
            CreateVolumeGroupSnapshotRequest: {
              fields: {
                name: { type: 'string', id: 1 },
                source_volume_ids: { rule: 'repeated', type: 'string', id: 2 },
                secrets: { keyType: 'string', type: 'string', id: 3, options: { '(csi_secret)': true } },
                parameters: { keyType: 'string', type: 'string', id: 4 },
              },
            },
            CreateVolumeGroupSnapshotResponse: { fields: { group_snapshot: { type: 'VolumeGroupSnapshot', id: 1 } } },
            VolumeGroupSnapshot: {
              fields: {
                group_snapshot_id: { type: 'string', id: 1 },
                snapshots: { rule: 'repeated', type: 'Snapshot', id: 2 },
                creation_time: { type: '.google.protobuf.Timestamp', id: 3 },
                ready_to_use: { type: 'bool', id: 4 },
              },
            },
            DeleteVolumeGroupSnapshotRequest: {
              fields: {
                group_snapshot_id: { type: 'string', id: 1 },
                snapshot_ids: { rule: 'repeated', type: 'string', id: 2 },
                secrets: { keyType: 'string', type: 'string', id: 3, options: { '(csi_secret)': true } },
              },
            },
            DeleteVolumeGroupSnapshotResponse: { fields: {} },
            GetVolumeGroupSnapshotRequest: {
              fields: {
                group_snapshot_id: { type: 'string', id: 1 },
                snapshot_ids: { rule: 'repeated', type: 'string', id: 2 },
                secrets: { keyType: 'string', type: 'string', id: 3, options: { '(csi_secret)': true } },
              },
            },
            GetVolumeGroupSnapshotResponse: { fields: { group_snapshot: { type: 'VolumeGroupSnapshot', id: 1 } } },
            BlockMetadata: { fields: { byte_offset: { type: 'int64', id: 1 }, size_bytes: { type: 'int64', id: 2 } } },
            BlockMetadataType: { values: { UNKNOWN: 0, FIXED_LENGTH: 1, VARIABLE_LENGTH: 2 } },
            GetMetadataAllocatedRequest: {
              fields: {
                snapshot_id: { type: 'string', id: 1 },
                starting_offset: { type: 'int64', id: 2 },
                max_results: { type: 'int32', id: 3 },
                secrets: { keyType: 'string', type: 'string', id: 4, options: { '(csi_secret)': true } },
              },
            },
            GetMetadataAllocatedResponse: {
              fields: {
                block_metadata_type: { type: 'BlockMetadataType', id: 1 },
                volume_capacity_bytes: { type: 'int64', id: 2 },
                block_metadata: { rule: 'repeated', type: 'BlockMetadata', id: 3 },
              },
            },
            GetMetadataDeltaRequest: {
              fields: {
                base_snapshot_id: { type: 'string', id: 1 },
                target_snapshot_id: { type: 'string', id: 2 },
                starting_offset: { type: 'int64', id: 3 },
                max_results: { type: 'int32', id: 4 },
                secrets: { keyType: 'string', type: 'string', id: 5, options: { '(csi_secret)': true } },
              },
            },
            GetMetadataDeltaResponse: {
              fields: {
                block_metadata_type: { type: 'BlockMetadataType', id: 1 },
                volume_capacity_bytes: { type: 'int64', id: 2 },
                block_metadata: { rule: 'repeated', type: 'BlockMetadata', id: 3 },
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
            EnumOptions: { fields: {}, extensions: [[1000, 536870911]] },
            EnumValueOptions: { fields: {}, extensions: [[1000, 536870911]] },
            FieldOptions: { fields: {}, extensions: [[1000, 536870911]] },
            MessageOptions: { fields: {}, extensions: [[1000, 536870911]] },
            MethodOptions: { fields: {}, extensions: [[1000, 536870911]] },
            ServiceOptions: { fields: {}, extensions: [[1000, 536870911]] },
            BoolValue: { fields: { value: { type: 'bool', id: 1 } } },
            Int64Value: { fields: { value: { type: 'int64', id: 1 } } },
            Timestamp: { fields: { seconds: { type: 'int64', id: 1 }, nanos: { type: 'int32', id: 2 } } },
          },
        },
      },
    },
  },
};
