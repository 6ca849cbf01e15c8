// Generated from csi-proto/registration.proto by scripts/generate-csi.ts. Do not edit: change the proto, then `npm run generate`.

import type { Unary } from './rpc-kinds.ts';

/** The services of pluginregistration, by their full names. */
export interface RegistrationServices {
  readonly 'pluginregistration.Registration': RegistrationService;
}

/** Served on the registration socket, not on the CSI one. */
export interface RegistrationService {
  /** Returns the plugin behind this socket. */
  readonly GetInfo: Unary<InfoRequest, PluginInfo>;
  /** Reports whether the kubelet accepted the answer of GetInfo. */
  readonly NotifyRegistrationStatus: Unary<RegistrationStatus, RegistrationStatusResponse>;
}

export type InfoRequest = Readonly<Record<string, never>>;

/** A plugin, for the kubelet. */
export interface PluginInfo {
  /** `CSIPlugin` for a CSI driver. */
  readonly type: string;
  /** The driver name, as GetPluginInfo returns it. */
  readonly name: string;
  /** Path of the socket that the kubelet must use; empty means this one. */
  readonly endpoint: string;
  /** Versions of the plugin's interface, `1.0.0` for CSI 1.x. */
  readonly supported_versions: readonly string[];
}

export interface RegistrationStatus {
  /** false if the kubelet refused the plugin. It then calls nothing. */
  readonly plugin_registered: boolean;
  /** The reason of the refusal. */
  readonly error: string;
}

export type RegistrationStatusResponse = Readonly<Record<string, never>>;
