// Generated from csi-proto/registration.proto by scripts/generate-csi.ts. Do not edit: change the proto, then `npm run generate`.

import type { Unary } from './rpc-kinds.ts';

/** The services of pluginregistration, by their full names. */
export interface RegistrationServices {
  readonly 'pluginregistration.Registration': RegistrationService;
}

/** Served on the registration socket, not on the CSI one. */
export interface RegistrationService {
  /** Who is behind this socket. */
  readonly GetInfo: Unary<InfoRequest, PluginInfo>;
  /** The kubelet's verdict on what GetInfo answered. */
  readonly NotifyRegistrationStatus: Unary<RegistrationStatus, RegistrationStatusResponse>;
}

export type InfoRequest = Readonly<Record<string, never>>;

/** A plugin as the kubelet knows it. */
export interface PluginInfo {
  /** `CSIPlugin` for a CSI driver. */
  readonly type: string;
  /** The driver name, as GetPluginInfo answers it. */
  readonly name: string;
  /** Socket the kubelet has to speak to; empty means this one. */
  readonly endpoint: string;
  /** Versions of the plugin's own interface, `1.0.0` for CSI 1.x. */
  readonly supported_versions: readonly string[];
}

export interface RegistrationStatus {
  /** false: the kubelet refused, and nothing will be called. */
  readonly plugin_registered: boolean;
  /** Why it refused. */
  readonly error: string;
}

export type RegistrationStatusResponse = Readonly<Record<string, never>>;
