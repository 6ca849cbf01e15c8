// Generated from csi-proto/registration.proto by scripts/generate-csi.ts. Do not edit: change the proto, then `npm run generate`.

/** pluginregistration as a protobufjs INamespace. The type is object, because INamespace lacks the keys of map fields. */
export const descriptor: object = {
  nested: {
    pluginregistration: {
      nested: {
        Registration: {
          methods: {
            GetInfo: { requestType: 'InfoRequest', responseType: 'PluginInfo' },
            NotifyRegistrationStatus: { requestType: 'RegistrationStatus', responseType: 'RegistrationStatusResponse' },
          },
        },
        InfoRequest: { fields: {} },
        PluginInfo: {
          fields: {
            type: { type: 'string', id: 1 },
            name: { type: 'string', id: 2 },
            endpoint: { type: 'string', id: 3 },
            supported_versions: { rule: 'repeated', type: 'string', id: 4 },
          },
        },
        RegistrationStatus: { fields: { plugin_registered: { type: 'bool', id: 1 }, error: { type: 'string', id: 2 } } },
        RegistrationStatusResponse: { fields: {} },
      },
    },
  },
};
