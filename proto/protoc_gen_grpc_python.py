"""A protoc plugin for Python's gRPC stubs, which grpcio-tools holds inside its protoc and nowhere else.

Reads a CodeGeneratorRequest from stdin and writes the response to stdout, as protoc's plugins do. Owns nothing.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc


def generate(request: CodeGeneratorRequest) -> CodeGeneratorResponse:
    """The stubs of the files to generate; the error says if protoc failed, it has said why on stderr."""
    with tempfile.TemporaryDirectory() as folder:
        described, out = Path(folder) / "described.binpb", Path(folder) / "out"
        described.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        out.mkdir()
        options = ["protoc", f"--descriptor_set_in={described}", f"--grpc_python_out={out}"]
        code = protoc.main([*options, *request.file_to_generate])
        response = CodeGeneratorResponse(error=f"protoc ended with {code}" if code else None)
        response.supported_features = CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
        for path in sorted(out.rglob("*.py")):
            response.file.add(name=path.relative_to(out).as_posix(), content=path.read_text(encoding="utf-8"))
        return response


if __name__ == "__main__":
    sys.stdout.buffer.write(generate(CodeGeneratorRequest.FromString(sys.stdin.buffer.read())).SerializeToString())
