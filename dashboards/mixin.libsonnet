// The boards, rules and alerts for those who deploy with jsonnet; what is in the files beside it.
// Needs a jsonnet that has std.parseYaml (0.18 or newer).
local groups = std.parseYaml(importstr 'rules/joulemark.rules.yml').groups;
local kept(key) = [
  group { rules: [rule for rule in group.rules if std.objectHas(rule, key)] }
  for group in groups
  if std.length([rule for rule in group.rules if std.objectHas(rule, key)]) > 0
];

{
  grafanaDashboards+:: {
    'joulemark-fleet.json': import 'joulemark-fleet.json',
    'joulemark-node.json': import 'joulemark-node.json',
    'joulemark-run.json': import 'joulemark-run.json',
  },
  prometheusRules+:: { groups+: kept('record') },
  prometheusAlerts+:: { groups+: kept('alert') },
}
