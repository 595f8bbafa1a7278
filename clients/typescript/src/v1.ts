/** The contract, generated: messages, enums and the service. */
export * from "./gen/markethistory/v1/coverage_pb.js";
export * from "./gen/markethistory/v1/error_reason_pb.js";
export * from "./gen/markethistory/v1/history_service_pb.js";
export * from "./gen/markethistory/v1/quality_pb.js";
export * from "./gen/markethistory/v1/series_pb.js";
