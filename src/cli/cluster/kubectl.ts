/** Runs kubectl, with the reader's own kubeconfig, context and permissions. */
import { FailedError } from '../errors.ts';

export interface KubectlOptions {
  readonly kubeconfig?: string;
  readonly context?: string;
  /** Passed to `kubectl --request-timeout`, for example `20s`. */
  readonly requestTimeout?: string;
}

/** The result of a command that may fail. */
export interface KubectlResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Kubectl {
  /** Runs kubectl and returns its output, whatever its exit code. Throws `FailedError` if there is no kubectl. */
  readonly attempt: (...args: readonly string[]) => Promise<KubectlResult>;
  /** Runs kubectl and returns its standard output. Throws `FailedError` with kubectl's own message. */
  readonly run: (...args: readonly string[]) => Promise<string>;
  /** Runs kubectl with this program's input and output, however long it takes. Returns its exit code. */
  readonly attach: (...args: readonly string[]) => Promise<number>;
}

const missingKubectl = 'kubectl is not on the PATH: install it, or add its directory to the PATH';

/** Time limit of one command. `exec` into a node that has just died would wait for minutes. */
const timeoutMs = 60_000;

export function makeKubectl(options: KubectlOptions): Kubectl {
  const access = [
    ...(options.kubeconfig === undefined ? [] : [`--kubeconfig=${options.kubeconfig}`]),
    ...(options.context === undefined ? [] : [`--context=${options.context}`]),
  ];
  const flags = [...access, `--request-timeout=${options.requestTimeout ?? '20s'}`];
  const attempt = async (...args: readonly string[]): Promise<KubectlResult> => {
    const { execa } = await import('execa');
    const result = await execa('kubectl', [...flags, ...args], {
      reject: false,
      stdin: 'ignore',
      timeout: timeoutMs,
      maxBuffer: 512 * 1024 * 1024,
    });
    if (result.code === 'ENOENT') throw new FailedError(missingKubectl);
    const late = result.timedOut ? `kubectl did not answer within ${timeoutMs / 1000} s` : '';
    return {
      exitCode: result.exitCode ?? 1,
      stdout: result.stdout,
      stderr: late === '' ? result.stderr : late,
    };
  };
  return {
    attempt,
    attach: async (...args) => {
      const { execa } = await import('execa');
      // A request timeout would end commands that take long.
      const result = await execa('kubectl', [...access, ...args], {
        reject: false,
        stdio: 'inherit',
      });
      if (result.code === 'ENOENT') throw new FailedError(missingKubectl);
      return result.exitCode ?? 1;
    },
    run: async (...args) => {
      const { exitCode, stdout, stderr } = await attempt(...args);
      if (exitCode !== 0) throw new FailedError(stderr.trim() || `kubectl exited with ${exitCode}`);
      return stdout;
    },
  };
}
