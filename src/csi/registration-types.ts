// Generated from csi-proto/registration.proto by scripts/generate-csi.ts. Do not edit: change the proto, then `npm run generate`.

import type { Unary } from './rpc-kinds.ts';

/** The services of pluginregistration, by their full names. */
export interface RegistrationServices {
  readonly 'pluginregistration.Registration': RegistrationService;
}

/** Served on the registration socket, not on the CSI socket. */
export interface RegistrationService {
  /** Returns the type, name and endpoint of the plugin. */
  readonly GetInfo: Unary<InfoRequest, PluginInfo>;
  /** Tells the plugin whether the kubelet has registered it. */
  readonly NotifyRegistrationStatus: Unary<RegistrationStatus, RegistrationStatusResponse>;
}

export type InfoRequest = Readonly<Record<string, never>>;

/** What the kubelet needs to know about a plugin. */
export interface PluginInfo {
  /** `CSIPlugin` for a CSI driver. */
  readonly type: string;
  /** The driver name, as GetPluginInfo returns it. */
  readonly name: string;
  /** Path of the plugin's socket; if empty, the kubelet uses the registration socket. */
  readonly endpoint: string;
  /** Versions of the plugin's API: `1.0.0` for CSI 1.x. */
  readonly supported_versions: readonly string[];
}

export interface RegistrationStatus {
  /** false if the kubelet refused the plugin; it then makes no CSI calls. */
  readonly plugin_registered: boolean;
  /** Why the kubelet refused the plugin. */
  readonly error: string;
}

export type RegistrationStatusResponse = Readonly<Record<string, never>>;
