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
  /** Runs kubectl and returns its output, whatever its exit code, without its log. Throws `FailedError` if there is no kubectl. */
  readonly attempt: (...args: readonly string[]) => Promise<KubectlResult>;
  /** Runs kubectl and returns its standard output. Throws `FailedError` with kubectl's own message. */
  readonly run: (...args: readonly string[]) => Promise<string>;
  /** Runs kubectl with this program's input and output, however long it takes. Returns its exit code. */
  readonly attach: (...args: readonly string[]) => Promise<number>;
}

const missingKubectl = 'kubectl is not on the PATH: install it, or add its directory to the PATH';

/** A line of kubectl's log, as `E1127 14:20:00.123456 42 memcache.go:265] …`. It logs each attempt to reach the API. */
const logLine = /^[EFIW]\d{4} .*(?:\n|$)/gm;

/** How kubectl says that it found no cluster, rather than that the cluster refused. */
const noCluster =
  /^(?:The connection to the server .* was refused|Unable to connect to the server|error: (?:Missing or incomplete configuration info|context .* does not exist))/im;

/** Returns what kubectl said, without the lines of its log, and what to do if it reached no cluster. */
export function kubectlProblem(stderr: string): string {
  const message = withoutLog(stderr);
  if (!noCluster.test(message)) return message;
  const [reason = ''] = message.replace(/^error: /, '').split('\n');
  return `kubectl reaches no cluster: ${reason}; choose a cluster with --context or --kubeconfig, and check it with 'kubectl cluster-info'`;
}

/** If there is nothing else, the log is returned. */
function withoutLog(stderr: string): string {
  return stderr.replace(logLine, '').trim() || stderr.trim();
}

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
      stderr: late === '' ? withoutLog(result.stderr) : late,
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
      if (exitCode !== 0)
        throw new FailedError(kubectlProblem(stderr) || `kubectl exited with ${exitCode}`);
      return stdout;
    },
  };
}
