import { createRequire } from 'node:module';

/**
 * Histories as the Temporal UI and CLI download them. The SDK's own conversion fails ("type must be a Type") where the
 * package manager gave two of its packages copies of their own of protobufjs; this one takes the copy that belongs to
 * the messages.
 */
interface ProtoJson {
  fromJson(type: unknown, json: unknown, options: { readonly ignoreUnknownFields: boolean }): object;
  toJson(type: unknown, message: unknown): unknown;
}
interface Messages {
  readonly temporal: { readonly api: { readonly history: { readonly v1: { readonly History: { fromObject(history: unknown): unknown } } } } };
}
interface Root {
  lookupType(name: string): unknown;
}

const ofCommon = createRequire(createRequire(import.meta.url).resolve('@temporalio/common'));
const ofMessages = createRequire(ofCommon.resolve('@temporalio/proto'));

function conversion(): { readonly json: ProtoJson; readonly messages: Messages; readonly type: unknown } {
  const messages = ofCommon('@temporalio/proto') as Messages;
  const { patchProtobufRoot } = ofCommon('@temporalio/proto/lib/patch-protobuf-root') as { readonly patchProtobufRoot: (root: unknown) => Root };
  return {
    json: ofMessages('protobufjs/ext/protojson') as ProtoJson,
    messages,
    type: patchProtobufRoot(messages).lookupType('temporal.api.history.v1.History'),
  };
}

/** A history as `Worker.runReplayHistory` takes it, from its JSON. @throws when it is no history */
export function historyFromJson(history: unknown): object {
  const { json, type } = conversion();
  return json.fromJson(type, history, { ignoreUnknownFields: true });
}

/** The JSON of a history that a client fetched. */
export function historyToJson(history: object): unknown {
  const { json, messages, type } = conversion();
  return json.toJson(type, messages.temporal.api.history.v1.History.fromObject(history));
}
