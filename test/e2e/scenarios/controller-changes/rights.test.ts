/** The rights of the controller at the API server, compared with what it asked for since the cluster started. */
import test from 'ava';
import * as v from 'valibot';
import { type AuditEvent, requestsOf } from '../../cluster/audit.ts';
import { eventually } from '../../eventually.ts';
import { classes, release, systemNamespace } from '../../kube/chart.ts';
import { ClaimLoad } from '../../kube/claim-load.ts';
import { api, kubectlLoopcsi, layout, Scenario } from '../../kube/scenario.ts';
import { changeShape } from '../../kube/shape.ts';

const account = `${release}-controller`;

const roleSchema = v.object({
  rules: v.array(
    v.object({
      apiGroups: v.array(v.string()),
      resources: v.array(v.string()),
      resourceNames: v.optional(v.array(v.string()), []),
      verbs: v.array(v.string()),
    }),
  ),
});

interface Right {
  readonly group: string;
  readonly resource: string;
  /** Empty: all names. */
  readonly name: string;
  readonly verb: string;
}

/** Every single right of a role. */
async function rightsOf(role: string): Promise<readonly Right[]> {
  const path = `/apis/rbac.authorization.k8s.io/v1/namespaces/${systemNamespace}/roles/${role}`;
  const { rules } = v.parse(roleSchema, await api.call('GET', path));
  return rules.flatMap(({ apiGroups, resources, resourceNames, verbs }) =>
    apiGroups.flatMap((group) =>
      resources.flatMap((resource) =>
        (resourceNames.length === 0 ? [''] : resourceNames).flatMap((name) =>
          verbs.map((verb) => ({ group, resource, name, verb })),
        ),
      ),
    ),
  );
}

const uses = ({ verb, objectRef, responseStatus }: AuditEvent, right: Right): boolean =>
  (responseStatus?.code ?? 0) < 400 &&
  verb === right.verb &&
  objectRef?.resource === right.resource &&
  objectRef.apiGroup === right.group &&
  (right.name === '' || objectRef.name === right.name);

test.after.always(async () => changeShape(false));

test.serial(
  'the controller uses each of its rights, and no request of its pod is refused',
  async (t) => {
    await changeShape(true);
    // Before, pods of the other shape may have asked for what they may not do any more.
    const since = new Date().toISOString();
    const scenario = await Scenario.begin(t, 'rights');
    const load = new ClaimLoad(scenario, classes.immediate);
    await load.untilNextBound();
    await load.end(t);
    // Each changes the records of nodes.
    await kubectlLoopcsi('node', 'forget', 'never-seen', '--yes', '--force');
    await kubectlLoopcsi('node', 'remember', 'never-seen');
    const rights = await rightsOf(account);
    t.true(rights.length > 0);
    await eventually(
      'every right to be used',
      async () => {
        const requests = await requestsOf(layout, account);
        const unused = rights.filter((right) => !requests.some((event) => uses(event, right)));
        if (unused.length > 0) throw new Error(`unused: ${JSON.stringify(unused)}`);
        return true;
      },
      { timeoutMs: 120_000 },
    );
    const refused = (await requestsOf(layout, account)).filter(
      ({ requestReceivedTimestamp, responseStatus }) =>
        requestReceivedTimestamp > since && responseStatus?.code === 403,
    );
    t.deepEqual(refused, []);
  },
);
