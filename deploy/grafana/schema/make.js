// Writes dashboard.schema.json, a JSON Schema of the dashboards that CroSysLog ships, from Grafana's
// types. Made anew with `npm ci && npm run make` when package.json names another version of them.

import { writeFileSync } from 'node:fs';
import { createGenerator } from 'ts-json-schema-generator';

const schema = createGenerator({
  path: 'dashboard.ts',
  tsconfig: 'tsconfig.json',
  type: 'CrosyslogDashboard',
  additionalProperties: false,
  // Written out where they are used: some types share a name.
  expose: 'none',
  jsDoc: 'none',
}).createSchema('CrosyslogDashboard');

writeFileSync('dashboard.schema.json', `${JSON.stringify(schema)}\n`);
