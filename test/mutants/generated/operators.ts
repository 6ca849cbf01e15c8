/**
 * Generates defects of any module. It parses the compiled module with acorn, because acorn does not accept types, and because a text
 * pattern can neither find the end of a call of several lines nor distinguish a comparison from a generic. acorn is a dependency of
 * AVA, so it needs no download. There are three operators, for the three kinds of defects with which this driver could lose data:
 *
 * - `call`: removes a statement that is only a call, awaited or not, such as an fsync, lock, thaw or detach.
 * - `comparison`: inverts a comparison.
 * - `guard`: removes an `if` without `else` that ends with a throw or a return.
 *
 * Calls that only log, measure or mark a fault point are not removed: no test should depend on them.
 */
import { type Node, type Options, parse } from 'acorn';

export interface GeneratedMutant {
  /** Operator, function and code: it stays the same as long as the code does. */
  readonly name: string;
  /** The text of the module with the defect. */
  readonly module: string;
}

const options: Options = { ecmaVersion: 'latest', sourceType: 'module' };

const opposite = new Map([
  ['===', '!=='],
  ['!==', '==='],
  ['<', '>='],
  ['<=', '>'],
  ['>', '<='],
  ['>=', '<'],
]);

const unobserved = /^(?:await )?(?:[\w.#?]*\b)?(?:log|metrics|reached)\b/i;

interface Edit {
  readonly operator: 'call' | 'comparison' | 'guard';
  readonly node: Node;
  readonly replacement: string;
}

type Fields = Readonly<Record<string, unknown>>;

export function mutantsOf(module: string): readonly GeneratedMutant[] {
  const mutants: GeneratedMutant[] = [];
  const counts = new Map<string, number>();
  const visit = (node: Node, within: string): void => {
    const inside = nameOfFunction(node) ?? within;
    const edit = editOf(node, module);
    if (edit !== undefined) {
      const code = module.slice(edit.node.start, edit.node.end).replace(/\s+/g, ' ');
      const base = `${edit.operator} in ${inside}: ${code.slice(0, 100)}`;
      const count = (counts.get(base) ?? 0) + 1;
      counts.set(base, count);
      mutants.push({
        name: count === 1 ? base : `${base} (${count})`,
        module: module.slice(0, edit.node.start) + edit.replacement + module.slice(edit.node.end),
      });
    }
    for (const child of childrenOf(node)) visit(child, inside);
  };
  visit(parse(module, options), 'module');
  return mutants;
}

function editOf(node: Node, module: string): Edit | undefined {
  const fields = node as unknown as Fields;
  switch (node.type) {
    case 'ExpressionStatement': {
      if (!isCall(fields['expression'])) return undefined;
      if (unobserved.test(module.slice(node.start, node.end))) return undefined;
      return { operator: 'call', node, replacement: ';' };
    }
    case 'BinaryExpression': {
      const { left, right, operator } = fields;
      const other = opposite.get(String(operator));
      if (other === undefined || !isNode(left) || !isNode(right)) return undefined;
      const replacement = `${module.slice(left.start, left.end)} ${other} ${module.slice(right.start, right.end)}`;
      // In parentheses, since the operator binds more loosely than `<` where it was one, or more tightly.
      return { operator: 'comparison', node, replacement: `(${replacement})` };
    }
    case 'IfStatement': {
      const { consequent, alternate } = fields;
      if (!isNode(consequent) || isNode(alternate) || !leaves(consequent)) return undefined;
      return { operator: 'guard', node, replacement: ';' };
    }
    default:
      return undefined;
  }
}

/** Whether it is a call, after `await` and optional chaining. */
function isCall(expression: unknown): boolean {
  if (!isNode(expression)) return false;
  const { argument, expression: chained } = expression as unknown as Fields;
  if (expression.type === 'AwaitExpression') return isCall(argument);
  if (expression.type === 'ChainExpression') return isCall(chained);
  return expression.type === 'CallExpression';
}

/** Whether the statement is, or ends with, a throw or a return. */
function leaves(statement: Node): boolean {
  if (statement.type === 'ThrowStatement' || statement.type === 'ReturnStatement') return true;
  const body = (statement as unknown as Fields)['body'];
  const end: unknown = Array.isArray(body) ? body.at(-1) : undefined;
  return statement.type === 'BlockStatement' && isNode(end) && leaves(end);
}

function nameOfFunction(node: Node): string | undefined {
  const { id, key, init } = node as unknown as Fields;
  const name = [id, key].find((one) => isNode(one));
  const isFunction =
    node.type === 'FunctionDeclaration' ||
    node.type === 'MethodDefinition' ||
    (node.type === 'VariableDeclarator' && isNode(init, 'ArrowFunctionExpression'));
  if (!isFunction || name === undefined) return undefined;
  return String((name as unknown as Fields)['name']);
}

function childrenOf(node: Node): readonly Node[] {
  return Object.values(node)
    .flat()
    .filter((value): value is Node => isNode(value));
}

function isNode(value: unknown, type?: Node['type']): value is Node {
  if (typeof value !== 'object' || value === null || !('type' in value)) return false;
  return type === undefined ? typeof value.type === 'string' : value.type === type;
}
