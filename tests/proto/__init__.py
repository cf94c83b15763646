"""The codecs of both protocols, as flo/proto."""
