"""Options of TFLite files."""

from cloformer_deploy.backends.options import Options


class TFLiteOptions(Options):
    """Options of a TFLite file.

    Attributes:
        integer_io: the input and the outputs are integers like all between them, so that an NPU without float needs no
            CPU; an application quantizes the normalized image with the input's scale and zero point.
    """

    integer_io: bool = False
