/**
 * From protobuf-es descriptors to what grpc-js and its companions want.
 */
import { Buffer } from "node:buffer";
import { type DescMessage, type DescService, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import type { ServiceDefinition } from "@grpc/grpc-js";
import type { ReflectionService } from "@grpc/reflection";

/** The service as `Server.addService` takes it; handlers go by the methods' local names (`createGuard`). */
export function serviceDefinition(service: DescService): ServiceDefinition {
  return Object.fromEntries(service.methods.map((method) => [method.localName, methodDefinition(method)]));
}

function methodDefinition(method: DescService["methods"][number]): ServiceDefinition[string] {
  const [request, response] = [codec(method.input), codec(method.output)];
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming",
    responseStream: method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming",
    requestSerialize: request.serialize,
    requestDeserialize: request.deserialize,
    responseSerialize: response.serialize,
    responseDeserialize: response.deserialize,
  };
}

function codec<Desc extends DescMessage>(schema: Desc) {
  return {
    serialize: (message: MessageShape<Desc>): Buffer => Buffer.from(toBinary(schema, message)),
    deserialize: (bytes: Buffer): MessageShape<Desc> => fromBinary(schema, bytes),
  };
}

type PackageDefinition = ConstructorParameters<typeof ReflectionService>[0];

/** What @grpc/reflection reads: the file that declares the service, and those that it imports. */
export function reflectionDefinition(service: DescService): PackageDefinition[string] {
  const files = [service.file, ...service.file.dependencies];
  const fileDescriptorProtos = files.map(({ proto }) => Buffer.from(toBinary(FileDescriptorProtoSchema, proto)));
  return { format: "Protocol Buffer 3 DescriptorProto", type: {}, fileDescriptorProtos };
}
