import { isOnDevices, type Kind } from './mutant.ts';
import type { Verdict } from './trial.ts';

const head = `# Defects that tests must see

Written by \`npm run test:mutants -- --write\`. Each row is a deliberate defect of the driver: a piece of text of one module, and what
stands there instead (\`test/mutants/rows/\`). The command puts them into a copy of the compiled driver, one at a time, runs the
files of tests named beside, and fails unless one of their tests that passes without the defect fails with it. A module that does
not load, or a test that waits for ever, is not a defect seen.
`;

const commands = `| Command | Does |
|---|---|
| \`npm run build && npm run test:mutants\` | all of them: minutes on two cores; as root, since some need real loop devices |
| \`npm run test:mutants -- --only TEXT\` | those whose name, kind or file holds the text |
| \`npm run test:mutants -- --write\` | all, and writes this page when all were seen |
`;

/** docs/mutants.md. */
export function pageOf(kinds: readonly Kind[], verdicts: readonly Verdict[]): string {
  const all = kinds.flatMap(({ mutants }) => mutants);
  const onDevices = all.filter(({ red }) => red.some(isOnDevices)).length;
  const invisible = kinds.flatMap((kind) => kind.invisible ?? []);
  const counts =
    `${all.length} defects, all seen: ${all.length - onDevices} by tests in memory, ${onDevices} on real loop devices and mounts. ` +
    `${invisible.length} more are known to be invisible; they stand at the end with the reason.\n`;
  const order =
    '`Defect` says what the driver no longer does, `File` where below `src/`, `Red` which file of tests saw it, and by which test.\n';
  const sections = kinds.map((kind) => sectionOf(kind, verdicts));
  const end =
    invisible.length === 0
      ? []
      : [
          tableOf(
            'Invisible',
            ['Defect', 'File', 'Why no test can see it'],
            [...invisible.map(({ name, file, whyGreen }) => [name, code(file), whyGreen])],
          ),
        ];
  return [head, commands, counts, order, ...sections, ...end].join('\n');
}

function sectionOf({ title, mutants }: Kind, verdicts: readonly Verdict[]): string {
  const rows = mutants.map((mutant) => {
    const by = verdicts.find((verdict) => verdict.mutant === mutant)?.by ?? '';
    return [mutant.name, code(mutant.file), `${mutant.red.map(code).join(', ')}: ${by}`];
  });
  return tableOf(title, ['Defect', 'File', 'Red'], rows);
}

function tableOf(
  title: string,
  columns: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  const rule = `|${columns.map(() => '---').join('|')}|`;
  return [`## ${title}\n`, line(columns), rule, ...rows.map(line), ''].join('\n');
}

function code(text: string): string {
  return `\`${text}\``;
}
