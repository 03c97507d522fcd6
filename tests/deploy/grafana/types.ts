// Grafana's own types for the content of deploy/grafana/dashboards. Enums are taken by their values, as JSON has them.
import type { Dashboard, DataQuery, GraphFieldConfig, Panel, VariableModel, AnnotationQuery } from '@grafana/schema';
import type { Options as Stat } from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type { FieldConfig as StateFields, Options as States } from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type { Options as TimeSeries } from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

type Plain<T> = T extends string
  ? `${T}`
  : T extends number
    ? `${T}` extends `${infer N extends number}` ? N : T
    : T extends Array<infer One>
      ? Plain<One>[]
      : T extends object
        ? { [K in keyof T]: Plain<T[K]> }
        : T;

type Query = Plain<DataQuery> & { expr: string; legendFormat: string; range: boolean; instant: boolean };
type Config<Custom> = Omit<Plain<NonNullable<Panel['fieldConfig']>>, 'defaults'> & {
  defaults: Omit<Plain<NonNullable<Panel['fieldConfig']>['defaults']>, 'custom'> & { unit: string; custom?: Plain<Partial<Custom>> };
};
type Of<Kind extends string, Options, Custom> = Omit<Plain<Panel>, 'type' | 'options' | 'fieldConfig' | 'targets'> & {
  type: Kind;
  description: string;
  options: Plain<Partial<Options>>;
  fieldConfig: Config<Custom>;
  targets: Query[];
};
type Shown = Of<'timeseries', TimeSeries, GraphFieldConfig> | Of<'stat', Stat, never> | Of<'state-timeline', States, StateFields>;

export type Page = Omit<Plain<Dashboard>, 'panels' | 'templating' | 'annotations'> & {
  uid: string;
  panels: Shown[];
  templating: { list: Plain<VariableModel>[] };
  annotations: { list: (Plain<AnnotationQuery> & { expr: string; titleFormat: string })[] };
};
